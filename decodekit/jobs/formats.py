"""
Formats: JSON lines, CSV and Parquet as rows, from any place on.

What is no row but a broken line is a row with a fault, so that it keeps its place.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from decodekit import json_lines
from decodekit.errors import InputError
from decodekit.jobs import parquet
from decodekit.jobs.row import Mark, Row

TEXTS = ("id", "prompt", "completion", "chain")  # columns of a CSV file that are not JSON
MAX_FIELD = 64 << 20  # characters of a field in a CSV file


def json_rows(file: BinaryIO, start: Mark) -> Iterator[Row]:
    """A line each."""
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


def csv_rows(file: BinaryIO, start: Mark) -> Iterator[Row]:
    """Fields under the names of the first line."""
    csv.field_size_limit(MAX_FIELD)
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        names = next(reader, [])
        if len({*names}) < len(names):
            raise InputError(f"two columns have one name among {', '.join(map(repr, names))}; rename one")
        begin = Mark(0, 0, reader.line_num)
        try:
            for values in reader:
                if values:
                    end = Mark(begin.number + 1, 0, reader.line_num)
                    if begin.number >= start.number:
                        yield Row(begin, end, _csv_fields(names, values, end.line))
                    begin = end
        except csv.Error as exc:
            raise InputError(
                f"line {reader.line_num}: no CSV ({exc}); put quotes right, or escape them"
            ) from exc


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


def parquet_rows(file: BinaryIO, start: Mark) -> Iterator[Row]:
    """Columns; null is "not given"."""
    for number, fields in parquet.rows(file, start.number):
        present = {name: value for name, value in fields.items() if value is not None}
        yield Row(Mark(number, 0, number), Mark(number + 1, 0, number + 1), present)
