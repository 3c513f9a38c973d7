"""
Kills a fine-tuning run at many points, goes on with it, and compares its end with that of the unbroken run.

    make crash        200 points; or, in an environment that has everything:
    python export/tests/crash/crash.py --points 200

Kills are SIGKILL. A point is a line of the code that writes checkpoints, the middle of a file of tensors, a
batch, or a moment. After each kill the newest checkpoint must be whole, and at least as new as the last one
that was reported as written; after going on, the weights and the losses must be those of the unbroken
run to the bit. One process imports torch, and every run is a fork of it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from types import FrameType
from typing import Any

import tokenizers
import torch
import transformers

from decodekit_export import checkpoints, run_folder, snapshot, training_state
from decodekit_export.finetune import finetune
from decodekit_export.settings import Adapter, Saving, Settings, Watching
from decodekit_export.trainer import CompletionTrainer

WATCHED = {module.__file__ for module in (checkpoints, run_folder, snapshot, training_state)}
WAYS = ("line", "line", "line", "half", "batch", "batch", "moment")  # how often each is drawn

PAIRS = [
    ("a", "b"),
    ("Say yes.", "Yes."),
    ("Count.", "One, two, three."),
    ("Who?", "She did."),
    ("c", "d" * 9),
]
FULL = Settings(epochs=3, batch_size=2, accumulate=2, learning_rate=1e-3, order="grouped", seed=3)
LORA = Settings(
    epochs=3,
    batch_size=1,
    accumulate=2,
    learning_rate=1e-3,
    adapter=Adapter(rank=2, dropout=0.3),
    order="shuffled",
)
SAVING = Saving(every=1, keep=2)


class Run:
    """A run in the folder `work`, of which the pieces are forks of this process."""

    def __init__(self, work: Path, settings: Settings) -> None:
        self.work, self.settings = work, settings
        self.out = work / "out"

    def piece(
        self, *, resume: bool, before: Callable[[], None] = lambda: None, after: float | None = None
    ) -> int:
        """Start or go on in a fork; its exit status, negative for a signal. Killed after so many seconds."""
        child = os.fork()
        if not child:
            with (self.work / "errors").open("a") as errors, redirect_stderr(errors):
                try:
                    before()
                    self._train(resume)
                    os._exit(0)
                except BaseException as error:
                    print(f"{type(error).__name__}: {error}", file=errors, flush=True)
                    os._exit(1)
        if after is not None:
            time.sleep(after)
            os.kill(child, signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _train(self, resume: bool) -> None:
        save = checkpoints.Checkpoints.save

        def reporting(self_: Any, trainer: Any, *rest: Any) -> None:
            save(self_, trainer, *rest)
            (self.work / "written").write_text(str(trainer.state.global_step))

        checkpoints.Checkpoints.save = reporting  # type: ignore[method-assign]
        finetune(
            self.work.parent / "base",
            self.work.parent / "pairs.jsonl",
            self.out,
            self.settings,
            saving=Saving(SAVING.every, SAVING.keep, resume=resume),
            watching=Watching(endings=1),
        )

    def lost(self) -> str | None:
        """What is wrong with what a kill left, or None."""
        if self.out.exists():
            return None
        steps = run_folder.RunFolder(self.out).steps()
        written = int((self.work / "written").read_text() or 0) if (self.work / "written").exists() else 0
        if (steps[-1] if steps else 0) < written:
            return f"step {written} was saved and {steps} is there"
        for step in steps:
            snapshot.read(run_folder.RunFolder(self.out).place(step))
        return None

    def result(self) -> tuple[bytes, Any]:
        """Weights and losses."""
        record = json.loads((self.out / "run.json").read_text())
        return (self.out / "model.safetensors").read_bytes(), (record["losses"], record["trained_tokens"])


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_line(number: int, reached: Callable[[], None] = kill_me) -> Counter[str]:
    """Call `reached` before the line of that number of those that write checkpoints; gives the count."""
    count: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event == "line":
            count["lines"] += 1
            if count["lines"] == number:
                reached()
        return trace

    sys.settrace(trace)
    return count


def in_the_middle(number: int) -> None:
    """Die with half of that file of tensors written."""
    count, save_file = Counter[str](), snapshot.save_file

    def half(tensors: Any, path: Path) -> None:
        save_file(tensors, path)
        count["files"] += 1
        if count["files"] == number:
            os.truncate(path, path.stat().st_size // 2)
            kill_me()

    snapshot.save_file = half


def at_batch(number: int) -> None:
    count, training_step = Counter[str](), CompletionTrainer.training_step

    def counting(*args: Any) -> Any:
        loss = training_step(*args)
        count["batches"] += 1
        if count["batches"] == number:
            kill_me()
        return loss

    CompletionTrainer.training_step = counting  # type: ignore[method-assign]


def make_base(folder: Path) -> None:
    """A tiny model and its tokenizer."""
    torch.manual_seed(0)
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    special = ["<s>", "</s>"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=270, special_tokens=special, initial_alphabet=alphabet
    )
    made.train_from_iterator(["a b"], trainer)
    config = transformers.LlamaConfig(
        vocab_size=made.get_vocab_size(),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=1,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    points, seed = (parsed := parser.parse_args()).points, parsed.seed
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    chance, root = random.Random(seed), Path(tempfile.mkdtemp(prefix="decodekit-crash-"))
    make_base(root / "base")
    rows = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    began, killed, wrong = time.monotonic(), Counter[str](), list[str]()

    for name, settings in (("full", FULL), ("lora", LORA)):
        whole = fresh(root, name, settings)
        start = time.monotonic()
        assert whole.piece(resume=False) == 0, (whole.work / "errors").read_text()
        seconds, expected = time.monotonic() - start, whole.result()
        lines = count_lines(fresh(root, f"{name}-lines", settings))
        steps = json.loads((whole.out / "run.json").read_text())["steps"]
        for _ in range(points // 2):
            run = fresh(root, "broken", settings)
            for resume in (False, True) if chance.random() < 0.3 else (False,):  # some are killed twice
                way = chance.choice(WAYS)
                where = {
                    "line": chance.randint(1, lines),
                    "half": chance.randint(1, 3 * steps),
                    "batch": chance.randint(1, 2 * steps),
                    "moment": chance.uniform(0, seconds),
                }[way]
                dies = {"line": at_line, "half": in_the_middle, "batch": at_batch}.get(way)
                status = run.piece(
                    resume=resume,
                    before=(lambda dies=dies, where=where: dies(where)) if dies else (lambda: None),
                    after=where if dies is None else None,
                )
                killed[way] += status == -signal.SIGKILL
                if status not in (0, -signal.SIGKILL) and not run.out.exists():
                    wrong.append(
                        f"{name} {way} {where}: status {status}: {(run.work / 'errors').read_text()}"
                    )
                if problem := run.lost():
                    wrong.append(f"{name} {way} {where}: {problem}")
            if not run.out.exists() and run.piece(resume=True):
                wrong.append(f"{name} {way} {where}: not gone on with: {(run.work / 'errors').read_text()}")
            elif run.result() != expected:
                wrong.append(f"{name} {way} {where}: other weights or losses")

    print(*wrong, sep="\n")
    print(
        f"{points} runs of {steps} steps, {killed.total()} kills ({dict(killed)}), "
        f"{len(wrong)} went wrong, {time.monotonic() - began:.0f} s"
    )
    shutil.rmtree(root)
    return bool(wrong)


def fresh(root: Path, name: str, settings: Settings) -> Run:
    shutil.rmtree(root / name, ignore_errors=True)
    (root / name).mkdir()
    return Run(root / name, settings)


def count_lines(run: Run) -> int:
    """How many lines of the code that writes checkpoints an unbroken run goes through."""
    last = run.work / "lines"

    def counting() -> None:
        count = at_line(0)
        end = os._exit

        def leave(status: int) -> None:
            last.write_text(str(count["lines"]))
            end(status)

        os._exit = leave  # type: ignore[assignment]

    assert run.piece(resume=False, before=counting) == 0, (run.work / "errors").read_text()
    return int(last.read_text())


if __name__ == "__main__":
    sys.exit(main())
