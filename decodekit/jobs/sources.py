"""
Sources: files of rows, read in order from any place: JSON lines, CSV, Parquet; the first two by gzip too.

What is no row but a broken line is a row with a fault, so that it keeps its place. A pipe is
read to its end first, into a file that has no name.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

from decodekit import json_lines
from decodekit.errors import InputError
from decodekit.jobs import parquet
from decodekit.jobs.storage import writing

FORMATS = ("jsonl", "csv", "parquet")
TEXTS = ("id", "prompt", "completion", "chain")  # columns of a CSV file that are not JSON
MAX_FIELD = 64 << 20  # characters of a field in a CSV file


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a row begins.

    number  of the row, from 0
    byte    of the unpacked file; 0 where rows can only be counted
    line    lines before it
    """

    number: int = 0
    byte: int = 0
    line: int = 0


BEGIN = Mark()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file, and where it begins and ends; `fields` is an error where it is none."""

    begin: Mark
    end: Mark
    fields: dict[str, Any] | InputError

    @property
    def number(self) -> int:
        return self.begin.number

    @property
    def line(self) -> int:
        """From 1; of a row of several lines the last."""
        return self.end.line


class Source:
    """A file of rows. Open it with `open_source`."""

    def __init__(
        self, name: str, kind: str, raw: Callable[[], BinaryIO], packed: bool, fields: Mapping[str, str]
    ) -> None:
        self.name, self.kind = name, kind
        self._raw, self._packed = raw, packed
        self._here = {there: here for here, there in fields.items()}
        self.limit: int | None = None  # rows that are read at most
        with raw() as file:
            self._state = _state(file)

    def fingerprint(self) -> dict[str, Any]:
        """What the file's bytes are, packed as they may be."""
        with _reading(self.name), self._raw() as file:
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            return {"bytes": self._state[0], "sha256": digest.hexdigest()}

    def check_unchanged(self) -> None:
        """InputError if the file was written to since it was opened."""
        with _reading(self.name), self._raw() as file:
            if _state(file) != self._state:
                raise InputError(f"{self.name}: was changed while it was read; put back what it was")

    def rows(self, start: Mark = BEGIN) -> Iterator[Row]:
        """From a place on that was told before."""
        with _reading(self.name), self._raw() as file:
            for row in self._rows(file, start):
                if self.limit is not None and row.number >= self.limit:
                    return
                yield replace(row, fields=self._renamed(row.fields)) if self._here else row

    def _rows(self, file: BinaryIO, start: Mark) -> Iterator[Row]:
        if self.kind == "parquet":
            return _parquet_rows(file, start)
        plain: Any = gzip.GzipFile(fileobj=file) if self._packed else file
        return _csv_rows(plain, start) if self.kind == "csv" else _json_rows(plain, start)

    def _renamed(self, fields: dict[str, Any] | InputError) -> dict[str, Any] | InputError:
        if isinstance(fields, InputError):
            return fields
        return {self._here.get(name, name): value for name, value in fields.items()}


def open_source(
    name: str, kind: str = "auto", *, folder: Path, fields: Mapping[str, str] | None = None
) -> Source:
    """The rows of a file; - is standard input.

    kind    one of FORMATS; "auto": by the end of the name, else JSON lines
    folder  where a pipe is put down
    fields  names of fields here -> what the file calls them
    """
    fields = fields or {}
    path = Path(name)
    packed = path.suffix == ".gz"
    end = path.with_suffix("").suffix if packed else path.suffix
    if kind == "auto":
        kind = next((k for k in FORMATS if end == f".{k}"), "jsonl")
    if name == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        file = _spooled(name, folder)
        source = Source(name, kind, lambda: _twin(file), packed, fields)
        weakref.finalize(source, file.close)
        return source
    with _reading(name):
        return Source(name, kind, lambda: path.open("rb"), packed, fields)


def _spooled(name: str, folder: Path) -> IO[bytes]:
    """What a pipe gives, in a file without a name."""
    with writing(folder), _reading(name):
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        if name == "-":
            shutil.copyfileobj(sys.stdin.buffer, file)
        else:
            with Path(name).open("rb") as pipe:
                shutil.copyfileobj(pipe, file)
        file.flush()
    return file


def _twin(file: IO[bytes]) -> BinaryIO:
    """The same file from its beginning; one at a time."""
    twin = os.fdopen(os.dup(file.fileno()), "rb")
    twin.seek(0)
    return twin


def _json_rows(file: BinaryIO, start: Mark) -> Iterator[Row]:
    file.seek(start.byte)
    number, byte, count = start.number, start.byte, start.line
    for line in iter(lambda: file.readline(json_lines.MAX_LINE + 1), b""):
        begin = Mark(number, byte, count)
        byte, count = byte + len(line), count + 1
        if len(line) > json_lines.MAX_LINE:
            raise InputError(f"line {count}: longer than {json_lines.MAX_LINE:,} bytes; one object a line")
        if not line.strip():
            continue
        number += 1
        fields: dict[str, Any] | InputError
        try:
            fields = json_lines.parse_line(f"line {count}", line)
        except InputError as exc:
            fields = exc.with_traceback(None)
        yield Row(begin, Mark(number, byte, count), fields)


def _csv_rows(file: BinaryIO, start: Mark) -> Iterator[Row]:
    csv.field_size_limit(MAX_FIELD)
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        names = next(reader, [])
        if len({*names}) < len(names):
            raise InputError(f"two columns have one name among {', '.join(map(repr, names))}; rename one")
        begin = Mark(0, 0, reader.line_num)
        for values in reader:
            if values:
                end = Mark(begin.number + 1, 0, reader.line_num)
                if begin.number >= start.number:
                    yield Row(begin, end, _csv_fields(names, values, end.line))
                begin = end


def _csv_fields(names: list[str], values: list[str], line: int) -> dict[str, Any] | InputError:
    if len(values) != len(names):
        return InputError(f"line {line}: {len(values)} fields for {len(names)} columns")
    return {n: v if n in TEXTS else _value(v) for n, v in zip(names, values) if v != ""}


def _value(text: str) -> Any:
    """A field that may be JSON, and is a text otherwise."""
    try:
        return json_lines.parse("", text)
    except InputError:
        return text


def _parquet_rows(file: BinaryIO, start: Mark) -> Iterator[Row]:
    for number, fields in parquet.rows(file, start.number):
        present = {name: value for name, value in fields.items() if value is not None}
        yield Row(Mark(number, 0, number), Mark(number + 1, 0, number + 1), present)


def _state(file: BinaryIO) -> tuple[int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """What fails within is told as an error of that file."""
    try:
        yield
    except InputError as exc:
        raise exc if str(exc).startswith(name) else InputError(f"{name}: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{name}: not UTF-8 ({exc.reason}); convert it") from exc
    except (OSError, EOFError, csv.Error) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise InputError(f"{name}: cannot be read ({why}); check the file") from exc
