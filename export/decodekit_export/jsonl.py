"""
JSON lines, read strictly: one object a line, nothing guessed, every fault with its place.

Lines end at \\n only. The file is read once, in pieces, and hashed on the way,
so the digest is that of the rows that were read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from decodekit import strict_json
from decodekit.errors import DecodekitError

MAX_PROBLEMS = 20  # collected before reading stops
MAX_LINE = 64 * 2**20  # bytes
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")

Json = dict[str, Any]


class DataError(DecodekitError, ValueError):
    """Rows that cannot be trained on; `problems` has a line for each."""

    code = "E_DATA"
    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        more = len(problems) - 1
        rest = f" (and {more} more bad row{'s' * (more > 1)})" if more else ""
        stopped = ", reading stopped there" if len(problems) >= MAX_PROBLEMS else ""
        super().__init__(problems[0] + rest + stopped)
        self.problems = problems


class Problems:
    """Faults of a file, collected until there are `most`, then raised together."""

    def __init__(self, file: str, most: int = MAX_PROBLEMS) -> None:
        self.file = file
        self._most = most
        self._found: list[str] = []

    def add(self, line: int, fault: str) -> None:
        self._found.append(f"{self.file}:{line}: {fault}")
        if len(self._found) >= self._most:
            self.close()

    def close(self) -> None:
        """Raise if there was a fault."""
        if self._found:
            raise DataError(self._found)


class JsonLines:
    """The objects of a file, with their line numbers from 1. Blank lines are passed over."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self._path = path
        self._problems = problems
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Hex digest of what was read so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[tuple[int, Json]]:
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(self._lines(file), start=1):
                    if (value := self._parse(number, line)) is not None:
                        yield number, value
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise DataError([f"{self._path}: cannot be read ({reason}); check the path"]) from exc

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                self._stop(number, f"longer than {MAX_LINE:,} bytes; is each row on a line of its own?")
            self._digest.update(line)
            if number == 1:
                if line.startswith(_UTF16_BOMS):
                    self._stop(1, f"UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {self._path.name}")
                line = line.removeprefix(_UTF8_BOM)
            yield line

    def _stop(self, number: int, fault: str) -> NoReturn:
        self._problems.add(number, fault)
        self._problems.close()
        raise AssertionError

    def _parse(self, number: int, line: bytes) -> Json | None:
        if not line.strip():
            return None
        try:
            value = strict_json.loads(line.decode("utf-8"))
            if not isinstance(value, dict):
                raise ValueError(f"an object is expected, found {type(value).__name__}")
        except UnicodeDecodeError as exc:
            way_out = f"convert it, such as iconv -f LATIN1 -t UTF-8 {self._path.name}"
            self._problems.add(number, f"not UTF-8 at byte {exc.start + 1} of the line; {way_out}")
        except UnicodeEncodeError:
            self._problems.add(number, r"a lone surrogate such as \ud800 is no character; remove it")
        except json.JSONDecodeError as exc:
            self._problems.add(number, f"not JSON: {exc.msg} at column {exc.colno}; write one object a line")
        except (ValueError, RecursionError) as exc:
            self._problems.add(number, f"not accepted: {exc}")
        else:
            return value
        return None
