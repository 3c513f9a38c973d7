"""JSON lines, read strictly: one object a line; every fault is named by its place, `file:line: what`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from decodekit import strict_json
from decodekit.errors import InputError

MAX_LINE = 64 << 20  # bytes


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The place of each line, "file:line", and its object. Blank lines are passed over."""
    try:
        with path.open("rb") as file:
            yield from objects(file, str(path))
    except OSError as exc:
        raise InputError(f"{path}: cannot be read ({exc.strerror or exc}); check the path") from exc


def objects(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same of an open file."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if line.strip():
            yield f"{name}:{number}", parse_line(f"{name}:{number}", line)


def parse(place: str, text: str) -> Any:
    """The value that is written in a text. NaN, infinity and keys that come twice are none."""
    try:
        return strict_json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InputError(f"{place}: not JSON ({exc}); write one object a line") from exc


def parse_line(place: str, line: bytes) -> dict[str, Any]:
    """The object that a line holds."""
    if len(line) > MAX_LINE:
        raise InputError(f"{place}: longer than {MAX_LINE:,} bytes; write one object a line")
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InputError(f"{place}: not UTF-8 at byte {exc.start}; convert the file") from exc
    value = parse(place, text)
    if not isinstance(value, dict):
        raise InputError(f"{place}: an object is expected, got {type(value).__name__}")
    return value
