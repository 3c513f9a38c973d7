"""A table: records as rows of a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from decodekit.jobs import parquet

COLUMNS = {
    **{"row": "int64", "id": "string", "text": "string", "finish_reason": "string"},
    **{"prompt_tokens": "int64", "completion_tokens": "int64", "error": "string", "record": "string"},
}


def write(path: Path, results: Path) -> None:
    """The records of a journal, in place of what was there."""
    parquet.write(path, COLUMNS, map(_columns, _records(results)))


def _records(results: Path) -> Iterator[Mapping[str, Any]]:
    with results.open("rb") as file:
        yield from map(json.loads, file)


def _columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as a row; all of it is in the last column."""
    body = record if not record.get("response") else record["response"]["body"]
    answer = body.get("choices", [body])[0]
    text = answer["message"]["content"] if "message" in answer else answer.get("text")
    error = record.get("error")
    return {
        "row": record["row"],
        "id": record.get("custom_id", record["id"]),
        "text": text,
        "finish_reason": answer.get("finish_reason"),
        **{name: body.get("usage", {}).get(name) for name in ("prompt_tokens", "completion_tokens")},
        "error": None if not error else f"{error['code']}: {error['message']}",
        "record": json.dumps(record, ensure_ascii=False),
    }
