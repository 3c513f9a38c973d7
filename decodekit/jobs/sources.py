"""
Sources: files of rows, read in order from any place, by gzip too.

A pipe is read to its end first, into a file that has no name.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, BinaryIO

from decodekit.errors import InputError
from decodekit.jobs.formats import csv_rows, json_rows, parquet_rows
from decodekit.jobs.row import BEGIN, Mark, Row
from decodekit.jobs.storage import writing

FORMATS = ("jsonl", "csv", "parquet")


class Source:
    """A file of rows. Open it with `open_source`."""

    def __init__(
        self,
        name: str,
        kind: str,
        file: Path | IO[bytes],
        packed: bool,
        fields: Mapping[str, str],
        carry: Sequence[str],
    ) -> None:
        self.name, self.kind = name, kind
        self._file, self._packed = file, packed
        self._here, self._carry = {there: here for here, there in fields.items()}, carry
        self.limit: int | None = None  # rows that are read at most
        with self._raw():
            self._state = self._now()

    def fingerprint(self) -> dict[str, Any]:
        """What the file's bytes are, packed as they may be."""
        with _reading(self.name), self._raw() as file:
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            return {"bytes": self._state[0], "sha256": digest.hexdigest()}

    def check_unchanged(self) -> None:
        """InputError if the file was written to since it was opened."""
        with _reading(self.name):
            if self._now() != self._state:
                raise InputError(f"{self.name}: was changed while it was read; put back what it was")

    def rows(self, start: Mark = BEGIN) -> Iterator[Row]:
        """From a place on that was told before."""
        with _reading(self.name), self._raw() as file:
            for row in self._rows(file, start):
                if self.limit is not None and row.number >= self.limit:
                    return
                yield self._parted(row) if self._here or self._carry else row

    def _rows(self, file: BinaryIO, start: Mark) -> Iterator[Row]:
        if self.kind == "parquet":
            return parquet_rows(file, start)
        plain: Any = gzip.GzipFile(fileobj=file) if self._packed else file
        return csv_rows(plain, start) if self.kind == "csv" else json_rows(plain, start)

    def _parted(self, row: Row) -> Row:
        """With the names that fields have here, and what is carried apart from what is asked."""
        if isinstance(row.fields, InputError):
            return row
        fields = {self._here.get(name, name): value for name, value in row.fields.items()}
        carried = {name: fields.pop(name) for name in self._carry if name in fields}
        try:
            json.dumps(carried)
        except TypeError as exc:  # Parquet has more types
            return replace(row, fields=InputError(f"line {row.line}: carried: {exc}; make it a text"))
        return replace(row, fields=fields, carried=carried)

    def _raw(self) -> BinaryIO:
        return self._file.open("rb") if isinstance(self._file, Path) else _twin(self._file)

    def _now(self) -> tuple[int, int]:
        """Size and age of the file. It is not read, since a place in it may be shared."""
        found = os.stat(self._file if isinstance(self._file, Path) else self._file.fileno())
        return found.st_size, found.st_mtime_ns


def open_source(
    name: str,
    kind: str = "auto",
    *,
    folder: Path,
    fields: Mapping[str, str] | None = None,
    carry: Sequence[str] = (),
) -> Source:
    """The rows of a file; - is standard input.

    kind    one of FORMATS; "auto": by the end of the name, else JSON lines
    folder  where a pipe is put down
    fields  names of fields here -> what the file calls them
    carry   names of fields here that go into the record as they are
    """
    fields = fields or {}
    path = Path(name)
    packed = path.suffix == ".gz"
    end = path.with_suffix("").suffix if packed else path.suffix
    if kind == "auto":
        kind = next((k for k in FORMATS if end == f".{k}"), "jsonl")
    with _reading(name):
        if name != "-" and (path.is_file() or path.is_dir() or not path.exists()):
            return Source(name, kind, path, packed, fields, carry)
    file = _spooled(name, folder)
    source = Source(name, kind, file, packed, fields, carry)
    weakref.finalize(source, file.close)
    return source


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


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """What fails within is told as an error of that file."""
    try:
        yield
    except InputError as exc:
        raise exc if str(exc).startswith(name) else InputError(f"{name}: {exc}") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{name}: not UTF-8 ({exc.reason}); convert it") from exc
    except (OSError, EOFError, zlib.error, csv.Error) as exc:
        why = getattr(exc, "strerror", None) or exc
        raise InputError(f"{name}: cannot be read ({why}); check the file") from exc
