"""Damaged files of every kind: rows, or an error that says so; no other exception, no crash, no wait."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest
from drawn_tokenizers import END, byte_level, saved
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decodekit.chat import Chat
from decodekit_export.data import Reading, load
from decodekit_export.faults import DataError

EXAMPLES = int(os.environ.get("DECODEKIT_DAMAGED", "30"))
SAVED = Path(__file__).parent / "fixtures" / "saved-dataset" / "test"
ROWS = [{"prompt": f"the cat {i}", "completion": 'sat, "ça"\n'} for i in range(20)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
TABLE = b"prompt,completion\n" + b'the cat,"sat, ""on""\n it"\n' * 20

DAMAGE = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=6)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    tokenizer = saved(byte_level(["the cat"]), tmp_path_factory.mktemp("tokenizer"))
    return Chat(tokenizer, None, tokenizer.id(END))


def damaged(content: bytes, places: list[tuple[float, bytes]]) -> bytes:
    for place, put in places:
        at = int(place * len(content))
        content = content[:at] + put + content[at + max(len(put), 1) :]
    return content


def parquet() -> bytes:
    import pyarrow
    from pyarrow.parquet import write_table

    sink = pyarrow.BufferOutputStream()
    write_table(pyarrow.Table.from_pylist(ROWS), sink)
    return sink.getvalue().to_pybytes()


def arrow() -> bytes:
    return (SAVED / "data-00000-of-00001.arrow").read_bytes()


def state() -> bytes:
    return (SAVED / "state.json").read_bytes()


KINDS = {
    "rows.jsonl": lambda: LINES,
    "rows.csv": lambda: TABLE,
    "rows.jsonl.gz": lambda: gzip.compress(LINES),
    "rows.parquet": parquet,
    "saved/data-00000-of-00001.arrow": arrow,
    "saved/state.json": state,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_gives_rows_or_says_what_is_wrong(name, chat, tmp_path):
    if name not in ("rows.jsonl", "rows.csv", "rows.jsonl.gz"):
        pytest.importorskip("pyarrow", reason="needs pyarrow: decodekit-export[data]")
    whole = KINDS[name]()
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if path.parent != tmp_path:
        for file in SAVED.iterdir():
            (path.parent / file.name).write_bytes(file.read_bytes())
    reading = Reading(max_length=99, skip_bad=5, bad_folder=tmp_path)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(places=DAMAGE)
    def read(places):
        path.write_bytes(damaged(whole, places))
        try:
            assert len(load(path if path.parent == tmp_path else path.parent, chat, reading).rows) > 0
        except DataError as error:
            assert error.problems

    read()
