"""
JSON lines, read strictly: one object a line, nothing guessed, every fault with its place.

Lines end at \\n only, and are read one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from decodekit import strict_json
from decodekit_export.compressed import opened
from decodekit_export.faults import Problems

MAX_LINE = 64 * 2**20  # bytes
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")

Json = dict[str, Any]


class JsonLines:
    """The objects of a file, with their line numbers from 1. Blank lines are passed over."""

    def __init__(self, path: Path, problems: Problems) -> None:
        self._path = path
        self._problems = problems

    def __iter__(self) -> Iterator[tuple[int, Json]]:
        with opened(self._path) as file:
            for number, line in enumerate(lines(file, self._problems), start=1):
                if (value := self._parse(number, line)) is not None:
                    yield number, value

    def _parse(self, number: int, line: bytes) -> Json | None:
        if not line.strip():
            return None
        if number == 1 and line.lstrip().startswith(b"["):
            name = self._path.name
            self._problems.stop(1, f"a list; write one object a line, such as jq -c '.[]' {name} > {name}l")
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


def lines(file: BinaryIO, problems: Problems) -> Iterator[bytes]:
    """The lines of a file, a byte order mark left out. What cannot be lines of UTF-8 stops at once."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            problems.stop(number, f"longer than {MAX_LINE:,} bytes; is each row on a line of its own?")
        if number == 1:
            if line.startswith(_UTF16_BOMS):
                problems.stop(1, f"UTF-16; convert it: iconv -f UTF-16 -t UTF-8 {problems.file}")
            line = line.removeprefix(_UTF8_BOM)
        yield line
