"""Parquet: rows from a file and into one, a part at a time. The only module that knows pyarrow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from decodekit.errors import InputError, ParameterError
from decodekit.jobs.storage import replace, writing

PART = 8192  # rows read or written at a time


def rows(file: BinaryIO, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and columns of each row from number `start` on."""
    pa, pq = _pyarrow()
    try:
        reader = pq.ParquetFile(file)
        groups, number = [], 0
        for group in range(reader.num_row_groups):
            size = reader.metadata.row_group(group).num_rows
            if number + size <= start:
                number += size
                continue
            groups = list(range(group, reader.num_row_groups))
            break
        for part in reader.iter_batches(PART, row_groups=groups) if groups else ():
            for fields in part.to_pylist():
                if number >= start:
                    yield number, fields
                number += 1
    except pa.ArrowException as exc:
        raise InputError(f"not a Parquet file that can be read ({exc}); check the file") from exc


def write(path: Path, columns: Mapping[str, str], records: Iterable[Mapping[str, Any]]) -> None:
    """A file of those columns, name and type, in place of what was there.

    types  "string", "int64", "float64"
    """
    pa, pq = _pyarrow()
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])
    beside = path.with_name(f"{path.name}.tmp")
    with writing(path):
        with pq.ParquetWriter(beside, schema) as writer:
            left = iter(records)
            while part := list(islice(left, PART)):
                writer.write_table(pa.Table.from_pylist(part, schema))
        file = os.open(beside, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        replace(beside, path)


def check_installed() -> None:
    """ParameterError where pyarrow is not installed."""
    _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise ParameterError(
            "Parquet needs pyarrow, which is not installed; pip install 'decodekit[parquet]'"
        ) from exc
    return pyarrow, pyarrow.parquet
