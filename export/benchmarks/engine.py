"""
One measurement, in a process of its own: an engine trains, and says how fast and in how much memory.

    python engine.py ENGINE SHAPE DATA packed|rows FOLDER WARM STEPS     ends with a line FOUND {...}

Whoever drives it, both are trainers of transformers, and the same callback looks at them: from the end
of the steps that are not measured to the end of the last.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from subject import LONGEST, SHAPES, WINDOW, Shape

RATE, DECAY = 1e-3, 0.01


class Meter(transformers.TrainerCallback):
    """Trained tokens, seconds and memory of the measured steps."""

    def __init__(self, warm: int) -> None:
        self._warm, self._trained, self._steps = warm, 0, 0
        training_step = transformers.Trainer.training_step

        def counting(trainer: Any, model: Any, inputs: Any, items: Any = None) -> Any:
            self._trained += int(items)
            return training_step(trainer, model, inputs, items)

        transformers.Trainer.training_step = counting

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            forget_highest()
            self._before = resident("VmRSS")
        if state.global_step == self._warm:
            self._trained, self._began, self._cpu = 0, time.perf_counter(), time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > self._warm:
            self.found = {
                "trained": self._trained,
                "seconds": time.perf_counter() - self._began,
                "cpu": time.process_time() - self._cpu,
                "memory": (resident("VmHWM") - self._before) / 2**20,
            }


def forget_highest() -> None:
    """Let the highest resident size be the present one, where the system can."""
    if (refs := Path("/proc/self/clear_refs")).exists():
        refs.write_text("5")


def resident(which: str) -> int:
    """The resident size, "VmRSS", or the highest of it, "VmHWM", bytes; always the latter without /proc."""
    if (status := Path("/proc/self/status")).exists():
        found = next(line for line in status.read_text().splitlines() if line.startswith(which))
        return int(found.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def decodekit(shape: Shape, base: Path, data: Path, packed: bool, out: Path) -> Meter:
    from decodekit_export import finetune
    from decodekit_export.settings import Settings, Watching

    meter, make = Meter(shape.warm), finetune._trainer

    def metered(*args: Any) -> Any:
        trainer = make(*args)
        trainer.add_callback(meter)
        return trainer

    finetune._trainer = metered
    settings = Settings(
        max_steps=shape.warm + shape.steps,
        batch_size=shape.batch // 4 if packed else shape.batch,
        pack=WINDOW if packed else None,
        learning_rate=RATE,
        weight_decay=DECAY,
        warmup=0,
    )
    finetune.finetune(base, data, out, settings, watching=Watching(endings=1))
    return meter


def trl(shape: Shape, base: Path, data: Path, packed: bool, out: Path) -> Meter:
    import datasets
    import torch
    from trl import SFTConfig, SFTTrainer

    from decodekit_export.data import load
    from decodekit_export.data_options import reading_of
    from decodekit_export.pretrained import open_pretrained
    from decodekit_export.settings import Settings

    start = open_pretrained(base)
    rows = load(data, start.chat, reading_of(Settings(), start.context_length)).rows
    columns = {
        "input_ids": [list(row.ids) for row in rows],
        "completion_mask": [[int(trained) for trained in row.mask] for row in rows],
    }
    meter = Meter(shape.warm)
    config = SFTConfig(
        output_dir=str(out),
        max_steps=shape.warm + shape.steps,
        per_device_train_batch_size=shape.batch // 4 if packed else shape.batch,
        packing=packed,
        max_length=WINDOW if packed else LONGEST,
        completion_only_loss=True,
        learning_rate=RATE,
        weight_decay=DECAY,
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
    trainer = SFTTrainer(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=transformers.AutoTokenizer.from_pretrained(base),
        callbacks=[meter],
    )
    trainer.train()
    return meter


def main() -> None:
    engine, shape, data, packed, folder, warm, steps = sys.argv[1:]
    measured = replace(SHAPES[shape], warm=int(warm), steps=int(steps))
    train = {"trl": trl, "decodekit": decodekit}[engine]
    with tempfile.TemporaryDirectory() as own:
        base, rows = Path(folder) / shape, Path(folder) / f"{data}.jsonl"
        meter = train(measured, base, rows, packed == "packed", Path(own) / "out")
    print("FOUND " + json.dumps(meter.found))


if __name__ == "__main__":
    main()
