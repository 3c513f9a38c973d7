"""
Trained tokens per second and memory, beside TRL's SFTTrainer with its loss on the completions only.

    make bench-training

Same weights, same rows (the ids that decodekit makes of them), same rows in a step, same optimizer,
float32, the same threads. Every measurement is a process of its own; engines take turns, and the median of
the rounds is reported. Time runs from the beginning of the first step to the end of the last; beside it,
seconds of the processor, which other programs on the machine hardly change. Memory is the highest resident
size while training, less that before the first step.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

TAGLINE = Path(__file__).parents[1] / "recipes" / "tagline"
STEPS, BATCH, RATE = 25, 16, 1e-3
WINDOW, WINDOWS = 192, 4  # tokens of a packed window; windows of a step
CASES = {  # data, engine, packed
    "short pairs": [("trl", False), ("decodekit", False), ("trl", True), ("decodekit", True)],
    "mixed lengths": [("trl", False), ("decodekit", False)],
}


def make_base(folder: Path) -> None:
    """A Llama of 3.5 million weights that has learnt nothing, with the tokenizer of the embedded model."""
    import shutil

    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=1536,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        eos_token_id=0,
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    for file in (TAGLINE / "checkpoint").glob("*"):
        if file.name.startswith(("tokenizer", "chat_template", "generation")):
            shutil.copy(file, folder)


def make_data(folder: Path) -> None:
    """The bundled pairs; and some of them strung together, to rows of 20 to 500 tokens."""
    chance = random.Random(0)
    pairs = [json.loads(line) for line in (TAGLINE / "demo.jsonl").read_text().splitlines()]
    chance.shuffle(pairs)
    mixed = []
    for _ in range(STEPS * BATCH):
        asked, answered = (chance.choices(pairs, k=chance.randint(1, most)) for most in (12, 8))
        prompt, completion = (p["prompt"] for p in asked), (p["completion"] for p in answered)
        mixed.append({"prompt": " ".join(prompt), "completion": " ".join(completion)})
    for name, rows in (("short pairs", pairs), ("mixed lengths", mixed)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


class Meter:
    """Seconds and memory of the steps of a transformers trainer, whoever drives it."""

    def __init__(self) -> None:
        import transformers

        class Callback(transformers.TrainerCallback):
            def on_step_begin(_, args, state, control, **kwargs):
                if state.global_step == 0:
                    self.before, self.began, self.cpu = memory(), time.perf_counter(), time.process_time()

            def on_step_end(_, args, state, control, **kwargs):
                self.seconds = time.perf_counter() - self.began
                self.cpu_seconds = time.process_time() - self.cpu
                self.highest = memory()

        self.callback = Callback()

    def result(self, trained: int) -> dict[str, float]:
        return {
            "tokens_per_second": trained / self.seconds,
            "tokens_per_cpu_second": trained / self.cpu_seconds,
            "memory": (self.highest - self.before) / 2**20,
        }


def memory() -> int:
    """The highest resident size so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def rows_of(base: Path, data: Path):
    from decodekit_export.data import load
    from decodekit_export.data_options import reading_of
    from decodekit_export.pretrained import open_pretrained
    from decodekit_export.settings import Settings

    start = open_pretrained(base)
    return start, load(data, start.chat, reading_of(Settings(), start.context_length)).rows


def decodekit(base: Path, data: Path, packed: bool, work: Path) -> dict[str, float]:
    from decodekit_export import finetune
    from decodekit_export.settings import Settings, Watching

    meter = Meter()
    made = finetune._trainer

    def metered(*args):
        trainer = made(*args)
        trainer.add_callback(meter.callback)
        return trainer

    finetune._trainer = metered
    settings = Settings(
        max_steps=STEPS,
        batch_size=WINDOWS if packed else BATCH,
        pack=WINDOW if packed else None,
        learning_rate=RATE,
        warmup=0,
    )
    report = finetune.finetune(base, data, work / "out", settings, watching=Watching(endings=1))
    return meter.result(report.trained_tokens)


def trl(base: Path, data: Path, packed: bool, work: Path) -> dict[str, float]:
    import datasets
    import torch
    import transformers
    from trl import SFTConfig, SFTTrainer

    _, rows = rows_of(base, data)
    columns = {
        "input_ids": [list(r.ids) for r in rows],
        "completion_mask": [[int(m) for m in r.mask] for r in rows],
    }
    meter, trained = Meter(), []

    class Counting(SFTTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            trained.append(int(num_items_in_batch))
            return super().training_step(model, inputs, num_items_in_batch)

    config = SFTConfig(
        output_dir=str(work / "out"),
        max_steps=STEPS,
        per_device_train_batch_size=WINDOWS if packed else BATCH,
        packing=packed,
        max_length=WINDOW if packed else 1024,
        completion_only_loss=True,
        learning_rate=RATE,
        weight_decay=0.01,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, attn_implementation="sdpa"
    )
    trainer = Counting(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=transformers.AutoTokenizer.from_pretrained(base),
        callbacks=[meter.callback],
    )
    trainer.train()
    return meter.result(sum(trained))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=4, metavar=("ENGINE", "DATA", "PACKED", "WORK"))
    args = parser.parse_args()
    if args.one:
        engine, data, packed, work = args.one
        folder = Path(work)
        with tempfile.TemporaryDirectory() as own:
            run = {"trl": trl, "decodekit": decodekit}[engine]
            found = run(folder / "base", folder / f"{data}.jsonl", packed == "packed", Path(own))
        print("FOUND " + json.dumps(found))
        return
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        make_base(work / "base")
        make_data(work)
        found: dict[tuple[str, str, bool], list[dict[str, float]]] = {}
        for _ in range(args.rounds):
            for data, engines in CASES.items():
                for engine, packed in engines:
                    found.setdefault((data, engine, packed), []).append(measured(engine, data, packed, work))
    show(found)


def measured(engine: str, data: str, packed: bool, work: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", engine, data, "packed" if packed else "-", str(work)]
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    if not lines:
        sys.exit(f"{engine}, {data}: {done.stderr[-3000:]}")
    print(f"{engine:10} {data:14} {'packed' if packed else '':7} {lines[0][6:]}", file=sys.stderr)
    return dict(json.loads(lines[0][6:]))


def show(found: dict[tuple[str, str, bool], list[dict[str, float]]]) -> None:
    """A table in Markdown."""
    median = {
        key: {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        for key, runs in found.items()
    }
    versions = {name: metadata.version(name) for name in ("trl", "transformers", "torch", "accelerate")}
    print(", ".join(f"{name} {version}" for name, version in versions.items()), "on", platform.machine())
    print(
        "| data | engine | trained tokens/s | beside TRL | in CPU time | memory, MiB |\n" + "|---" * 6 + "|"
    )
    for (data, engine, packed), one in median.items():
        trl = median[data, "trl", False]
        beside, in_cpu_time = (one[n] / trl[n] for n in ("tokens_per_second", "tokens_per_cpu_second"))
        print(
            f"| {data} | {engine}{', packed' if packed else ''} | {one['tokens_per_second']:,.0f} "
            f"| {beside:.2f} | {in_cpu_time:.2f} | {one['memory']:,.0f} |"
        )


if __name__ == "__main__":
    main()
