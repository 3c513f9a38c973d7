"""
Identities: every row has one of its own, checked before a job begins, in bounded memory.

Hashes of the ids are sorted into parts that overflow into a file without a name, 8 bytes a row;
hashes that come twice are looked up in a second pass over the rows, so chance never accuses.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from decodekit.errors import InputError
from decodekit.jobs.sources import Source
from decodekit.jobs.storage import writing

LONGEST = 512  # characters of an id
PARTS = 256
FULL = 16_384  # hashes of one part that are kept in memory: 32 MiB of all parts
LISTED = 10  # faults that are told
SUSPECTS = 100_000  # hashes that are looked up
OPENAI = ("custom_id", "method", "url", "body")


def is_openai(fields: Mapping[str, Any]) -> bool:
    """Whether a row is of the OpenAI batch format."""
    return any(name in fields for name in OPENAI)


def identity(fields: Mapping[str, Any], number: int) -> str:
    """What names a row: custom_id, or id, or its number. ValueError where that is no usable name."""
    name = "custom_id" if is_openai(fields) else "id"
    if name not in fields:
        if name == "id":
            return f"row-{number}"
        raise ValueError("custom_id is missing")
    found = fields[name]
    if not isinstance(found, str):
        raise ValueError(f"{name} must be a text, got {found!r:.40}")
    if not 0 < len(found) <= LONGEST:
        raise ValueError(f"{name} must have 1 to {LONGEST} characters, got {len(found)}")
    return found


def check(source: Source, folder: Path) -> int:
    """How many rows there are. InputError, which lists them, for ids that are none or come twice.

    folder  where to put a file while at it
    """
    faults = Faults()
    with Hashes(folder) as hashes:
        count = 0
        for row in source.rows():
            count += 1
            if isinstance(row.fields, InputError):
                continue
            try:
                hashes.add(hash(identity(row.fields, row.number)))
            except ValueError as exc:
                faults.add(row.line, str(exc))
        suspects = hashes.twice()
    if suspects:
        first: dict[str, int] = {}
        for row in source.rows():
            for id in _identities(row.fields, row.number):
                if hash(id) in suspects and first.setdefault(id, row.line) != row.line:
                    faults.add(row.line, f"id {id!r:.60} is that of line {first[id]} too")
    if faults.count:
        raise InputError(f"{source.name}: {faults}; nothing was begun")
    return count


def _identities(fields: dict[str, Any] | InputError, number: int) -> Iterator[str]:
    if not isinstance(fields, InputError):
        try:
            yield identity(fields, number)
        except ValueError:
            return


class Hashes:
    """Numbers of 64 bits, and which of them come more than once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts = [array("q") for _ in range(PARTS)]
        self._chunks: list[list[int]] = [[] for _ in range(PARTS)]  # where in the file
        self._file: BinaryIO | None = None

    def __enter__(self) -> Hashes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, value: int) -> None:
        part = self._parts[value % PARTS]
        part.append(value)
        if len(part) == FULL:
            self._put_down(value % PARTS)

    def twice(self) -> set[int]:
        """At most SUSPECTS of those that were added more than once."""
        found: set[int] = set()
        for part, chunks in zip(self._parts, self._chunks):
            values = np.sort(np.concatenate([*map(self._chunk, chunks), np.frombuffer(part, np.int64)]))
            found.update(values[1:][values[1:] == values[:-1]][:SUSPECTS].tolist())
            if len(found) >= SUSPECTS:
                break
        return found

    def _put_down(self, index: int) -> None:
        with writing(self._folder):
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
            self._chunks[index].append(self._file.seek(0, 2))
            self._parts[index].tofile(self._file)
        self._parts[index] = array("q")

    def _chunk(self, place: int) -> Any:
        assert self._file is not None
        self._file.seek(place)
        return np.frombuffer(self._file.read(FULL * 8), np.int64)


class Faults:
    """Lines and what is wrong with them; all are counted, the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._listed: list[str] = []

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if len(self._listed) < LISTED:
            self._listed.append(f"line {line}: {what}")

    def __str__(self) -> str:
        more = f"; and {self.count - LISTED} more" if self.count > LISTED else ""
        return "; ".join(self._listed) + more
