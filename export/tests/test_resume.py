"""Nothing is lost: runs that are interrupted, gone on with, full disks, altered checkpoints, two at once."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from decodekit.errors import ParameterError
from decodekit_export import snapshot
from decodekit_export.errors import BusyError, ResumeError, SpaceError, TrainingError
from decodekit_export.finetune import finetune
from decodekit_export.interruption import Interrupted
from decodekit_export.run_folder import RunFolder
from decodekit_export.settings import Adapter, Saving, Settings, Watching
from decodekit_export.trainer import CompletionTrainer

CRASH = Path(__file__).parent / "crash" / "crash.py"
PAIRS = [
    ("What is the capital of France?", "Paris"),
    ("Name a colour.", "Blue, like the sky."),
    ("Say yes.", "Yes."),
    ("a", "b"),
    ("Goodbye", "See you!"),
]
QUICK = Settings(epochs=2, batch_size=2, learning_rate=1e-3, seed=5)  # three steps in an epoch
EVERY = Saving(every=1)
RESUMED = Saving(every=1, resume=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def tune(checkpoint, data, tmp_path):
    """Run in a folder of that name; gives report and weights."""

    def run(settings=QUICK, saving=EVERY, *, name="out", data=data):
        out = tmp_path / name
        report = finetune(
            checkpoint("Llama"), data, out, settings, saving=saving, watching=Watching(endings=1)
        )
        return report, load_file(out / "model.safetensors")

    return run


class Broken(Exception):
    """What ends a run in these tests."""


@pytest.fixture
def at_batch(monkeypatch):
    """Have something happen before the batch of that number, once."""

    def happen(number, what):
        step, count = CompletionTrainer.training_step, []

        def counting(*args):
            count.append(1)
            if len(count) == number:
                what()
            return step(*args)

        monkeypatch.setattr(CompletionTrainer, "training_step", counting)

    return happen


def give_up():
    raise Broken


def same(weights, others):
    return weights.keys() == others.keys() and all(torch.equal(weights[k], others[k]) for k in weights)


# Going on


@pytest.mark.parametrize(
    ("settings", "batch", "step"),
    [
        (QUICK, 5, 4),  # in the middle of the second epoch
        (QUICK, 4, 3),  # at its start
        (replace(QUICK, order="shuffled", accumulate=2, batch_size=1), 8, 4),  # in the middle of a step
        (replace(QUICK, adapter=Adapter(rank=4, dropout=0.5), schedule="linear"), 5, 4),
        (replace(QUICK, pack=64, batch_size=1, epochs=1), 3, 2),
        (replace(QUICK, precision="bfloat16", recompute=True), 5, 4),
    ],
    ids=["middle", "start", "accumulation", "adapter", "packed", "bfloat16"],
)
def test_a_run_gone_on_with_ends_at_the_weights_of_the_unbroken_one(tune, at_batch, settings, batch, step):
    whole, expected = tune(settings, name="whole")
    at_batch(batch, give_up)
    with pytest.raises(Broken):
        tune(settings)
    report, weights = tune(settings, RESUMED)
    assert same(weights, expected)
    assert report.losses == whole.losses and report.trained_tokens == whole.trained_tokens
    assert report.resumed == [step]


def test_evaluations_and_the_best_step_outlive_an_interruption(tune, at_batch, data):
    settings = replace(QUICK, valid=data, evaluate_every=1)
    whole, expected = tune(settings, name="whole")
    at_batch(4, give_up)
    with pytest.raises(Broken):
        tune(settings)
    report, weights = tune(settings, RESUMED)
    assert same(weights, expected)
    assert report.evaluations == whole.evaluations and [e["step"] for e in report.evaluations] == [*range(7)]


def test_a_run_killed_when_all_was_trained_only_writes_its_result(tune, monkeypatch):
    whole, expected = tune(name="whole")
    with monkeypatch.context() as patched, pytest.raises(Broken):
        patched.setattr("decodekit_export.finetune.check_weights", lambda _: give_up())
        tune()
    monkeypatch.setattr(CompletionTrainer, "training_step", give_up)
    report, weights = tune(saving=RESUMED)
    assert same(weights, expected) and report.steps == whole.steps == 6


def test_resume_without_a_checkpoint_begins(tune):
    report, _ = tune(saving=RESUMED)
    assert report.steps == 6 and report.resumed == []


def test_a_run_that_stopped_is_not_begun_anew_by_accident(tune, at_batch):
    at_batch(3, give_up)
    with pytest.raises(Broken):
        tune()
    with pytest.raises(
        ParameterError, match=r"out\.run holds a run that stopped after step 2; go on with --res"
    ):
        tune()


def test_other_settings_and_data_are_named_and_refused(tune, at_batch, data, tmp_path):
    at_batch(3, give_up)
    with pytest.raises(Broken):
        tune()
    other = tmp_path / "other.jsonl"
    other.write_text(data.read_text().replace("Paris", "Lyon"))
    changed = replace(QUICK, learning_rate=2e-3)
    with pytest.raises(ResumeError) as error:
        tune(changed, RESUMED, data=other)
    assert (
        "checkpoint-2: cannot be gone on with, since learning_rate was 0.001 and is 0.002; data_sha256"
        in str(error.value)
    )
    report, _ = tune(changed, Saving(resume=True, force=True), data=other)
    assert report.forced[0] == "learning_rate was 0.001 and is 0.002" and len(report.forced) == 2


# Signals


@pytest.fixture
def interruptible():
    """SIGINT as Python has it, whatever a shell in the background left of it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_middle_of_a_step_saves_once_and_ends(tune, at_batch, tmp_path, number, status):
    settings, rare = replace(QUICK, batch_size=1, accumulate=2), Saving(every=1000)
    before = signal.getsignal(number)
    _, expected = tune(settings, name="whole")
    at_batch(4, lambda: os.kill(os.getpid(), number))
    with pytest.raises(
        Interrupted, match=f"{number.name}: stopped after step 1, all of which is saved"
    ) as error:
        tune(settings, rare)
    assert error.value.exit_code == status
    assert RunFolder(tmp_path / "out").steps() == [1]
    assert signal.getsignal(number) is before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    _, weights = tune(settings, RESUMED)
    assert same(weights, expected)


@pytest.mark.usefixtures("interruptible")
def test_the_second_signal_ends_at_once(tune, at_batch):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    at_batch(2, twice)
    with pytest.raises(KeyboardInterrupt):
        tune()


# Disks and memory


def test_a_full_disk_leaves_the_checkpoint_before(tune, tmp_path, monkeypatch):
    save_file, written = snapshot.save_file, []

    def full(tensors, path):
        written.append(path)
        if len(written) == 5:  # the second of the three files of the second checkpoint
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save_file(tensors, path)

    with monkeypatch.context() as patched:
        patched.setattr(snapshot, "save_file", full)
        with pytest.raises(
            SpaceError, match=r"checkpoint-2: not written .*No space left.*needs [\d,]+ bytes and [\d,]+"
        ):
            tune()
    assert RunFolder(tmp_path / "out").steps() == [1]
    assert not list((tmp_path / "out.run").glob(".unfinished*"))
    report, _ = tune(saving=RESUMED)
    assert report.resumed == [1]


def test_without_room_for_a_checkpoint_nothing_is_begun(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(SpaceError, match="and 10 are free"):
        snapshot.write(tmp_path / "new", {"a.safetensors": {"x": torch.zeros(3)}}, {})
    assert list(tmp_path.iterdir()) == []


def test_out_of_memory_saves_the_last_step_and_says_what_to_lower(tune, at_batch, tmp_path, monkeypatch):
    import transformers

    at_batch(3, lambda: monkeypatch.setattr(transformers.Trainer, "training_step", no_memory))
    with pytest.raises(TrainingError, match=r"step 3: out of memory .* 1 rows, \d+ tokens"):
        tune(saving=Saving(every=1000))
    assert RunFolder(tmp_path / "out").steps() == [2]


def no_memory(*_):
    raise torch.OutOfMemoryError("no memory")


# What checkpoints are


@pytest.fixture
def broken(tune, at_batch, tmp_path):
    """The folder of a run that broke after step 4."""
    at_batch(5, give_up)
    with pytest.raises(Broken):
        tune()
    return tmp_path / "out.run"


def test_the_newest_two_are_kept_and_hold_tensors_and_json_only(broken):
    assert sorted(path.name for path in broken.iterdir()) == ["checkpoint-3", "checkpoint-4", "lock"]
    names = {path.name for path in (broken / "checkpoint-4").iterdir()}
    assert names == {
        "weights.safetensors",
        "optimizer.safetensors",
        "generators.safetensors",
        "state.json",
        "trainer_state.json",
        "notes.json",
        "began.json",
        "seal.json",
    }


def test_the_best_is_kept_besides(tune, data, at_batch, tmp_path):
    rates = replace(QUICK, valid=data, evaluate_every=1, learning_rate=0.5, warmup=0, epochs=3)
    at_batch(9, give_up)
    with pytest.raises(Broken):
        tune(rates, Saving(keep=1))
    steps = RunFolder(tmp_path / "out").steps()
    assert steps[-1] == 8 and len(steps) <= 2
    report, _ = tune(rates, Saving(keep=1, resume=True))
    losses = {e["step"]: e["loss"] for e in report.evaluations}
    assert report.valid_after == losses[report.chosen_step]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "state.json", "seal.json"])
def test_a_flipped_bit_is_found_and_the_one_before_offered(broken, tune, name):
    path = broken / "checkpoint-4" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResumeError, match=r"checkpoint-4.* not what was written.*remove .*checkpoint-4"):
        tune(saving=RESUMED)
    snapshot.remove(broken / "checkpoint-4")
    report, _ = tune(saving=RESUMED)
    assert report.resumed == [3]


def test_a_link_is_refused_and_a_stranger_ignored(broken, tune, tmp_path):
    place = broken / "checkpoint-4"
    (place / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/evil'\ntR.")
    (broken / ".unfinished-checkpoint-5").mkdir()
    weights = tmp_path / "weights"
    (place / "weights.safetensors").rename(weights)
    (place / "weights.safetensors").symlink_to(weights)
    with pytest.raises(ResumeError, match=r"weights.safetensors: not a regular file; do not use it"):
        tune(saving=RESUMED)
    (place / "weights.safetensors").unlink()
    weights.rename(place / "weights.safetensors")
    tune(saving=RESUMED)
    assert not broken.exists()


def test_a_seal_that_names_a_file_elsewhere_is_refused(broken, tune):
    seal = broken / "checkpoint-4" / "seal.json"
    seal.write_text(json.dumps({"../../secret.safetensors": {}}))
    with pytest.raises(ResumeError, match="'../../secret.safetensors' is no file of a checkpoint"):
        tune(saving=RESUMED)


def test_two_runs_are_kept_apart(tune, tmp_path):
    with (
        RunFolder(tmp_path / "out"),
        pytest.raises(BusyError, match=rf"process {os.getpid()} on .*choose another"),
    ):
        tune()
    tune()


# Kills


def test_kills_lose_nothing():
    done = subprocess.run(
        [sys.executable, CRASH, "--points", "6", "--seed", "1"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ", 0 went wrong" in done.stdout
