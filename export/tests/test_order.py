"""The order of rows, and processes that share a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from decodekit_export.finetune import finetune
from decodekit_export.order import WIDE, Batches
from decodekit_export.settings import Settings, Watching

sizes = st.integers(1, 5)


@given(st.lists(st.integers(1, 40), min_size=4, max_size=90), sizes, sizes, st.integers(1, 4), st.booleans())
def test_every_row_comes_once_an_epoch_and_no_process_idles(lengths, batch, accumulate, world, grouped):
    options = {"accumulate": accumulate, "grouped": grouped, "seed": 7, "world": world}
    mine = [list(Batches(lengths, batch, rank=rank, **options)) for rank in range(world)]
    assert sorted(row for batches in mine for rows in batches for row in rows) == [*range(len(lengths))]
    assert {len(batches) for batches in mine} == {len(Batches(lengths, batch, **options))}
    assert all(1 <= len(rows) <= batch + 1 for batches in mine for rows in batches)


@given(
    st.lists(st.integers(1, 40), min_size=8, max_size=90), st.sampled_from([(4, 1, 1), (2, 2, 1), (1, 1, 4)])
)
def test_the_rows_of_a_step_do_not_depend_on_how_it_is_spread(lengths, spread):
    def steps(batch, accumulate, world):
        options = {"accumulate": accumulate, "grouped": True, "seed": 1, "world": world}
        mine = [list(Batches(lengths, batch, rank=rank, **options)) for rank in range(world)]
        whole = [sorted(chain(*rows)) for rows in zip(*mine, strict=True)]
        return [sorted(chain(*whole[i : i + accumulate])) for i in range(0, len(whole), accumulate)]

    before_the_rest = (len(lengths) - 4) // 4  # which joins the last step where it would leave a process idle
    assert steps(*spread)[:before_the_rest] == steps(4, 1, 1)[:before_the_rest]


def test_epochs_and_seeds_differ_and_repeat():
    batches = Batches([1] * 40, 4, accumulate=1, grouped=True, seed=3)
    first = list(batches)
    batches.epoch = 1
    second = list(batches)
    batches.epoch = 0
    assert list(batches) == first != second
    assert list(Batches([1] * 40, 4, accumulate=1, grouped=True, seed=4)) not in (first, second)


def test_rows_of_like_length_share_a_batch():
    lengths = [1 + i % 100 for i in range(4 * WIDE)]
    batches = list(Batches(lengths, 4, accumulate=1, grouped=True, seed=0))
    assert all(max(lengths[i] for i in b) - min(lengths[i] for i in b) <= 2 for b in batches)
    assert [lengths[b[0]] for b in batches] != sorted(lengths[b[0]] for b in batches)


SOAK = pytest.mark.skipif("DECODEKIT_SOAK" not in os.environ, reason="set DECODEKIT_SOAK=1, or make soak")


@pytest.mark.parametrize("way", ["replicated", pytest.param("sharded", marks=SOAK)])
def test_two_processes_end_at_the_weights_of_one(checkpoint, tmp_path, way):
    data = tmp_path / "pairs.jsonl"
    pairs = [
        ("Say yes.", "Yes."),
        ("a", "b"),
        ("Bye", "See you!"),
        ("Count.", "One."),
        ("Who?", "I."),
        ("c", "d"),
    ]
    data.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in pairs))
    settings = Settings(epochs=3, learning_rate=1e-3, batch_size=2, valid=data, evaluate_every=3)
    record = finetune(
        checkpoint("Llama"), data, tmp_path / "one", settings, watching=Watching(endings=2)
    ).to_json()

    root = Path(__file__).parents[2]
    options = "--epochs 3 --learning-rate 1e-3 --batch-size 1 --evaluate-every 3 --endings 2"
    sharing = " --shard" if way == "sharded" else ""
    command = (
        f"-m torch.distributed.run --standalone --nproc-per-node 2 -m decodekit.cli finetune "
        f"{checkpoint('Llama')} {data} --valid {data} --out {tmp_path / 'two'} {options}{sharing}"
    )
    done = subprocess.run(
        [sys.executable, *command.split()],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}{os.pathsep}{root / 'export'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    record_of_two = json.loads((tmp_path / "two" / "run.json").read_text())
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert max((one[name] - two[name]).abs().max() for name in one) < 1e-5
    for key in ("trained_tokens", "steps", "chosen_step"):
        assert record_of_two[key] == record[key]
    assert record_of_two["valid_after"] == pytest.approx(record["valid_after"], abs=1e-5)
