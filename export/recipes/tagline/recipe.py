"""
The recipe of the embedded model, from nothing to a checked bundle and its measured figures.

    python export/recipes/tagline/recipe.py --work DIR

Pairs, tokenizer and base, fine-tuning with the loss on completions, float16, export, held-out
answers. On the way it keeps an early checkpoint, for the demo to fine-tune further. Every step
leaves its result in DIR; a step whose result is there is not done again, so a run that was
interrupted goes on, and an empty DIR starts afresh. About an hour and a half on one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pairs
from answers import answer
from base import make_base, texts_of
from demo import write_demo, write_demo_test
from figures import MODELS, measure, publish
from safetensors.torch import load_file, save_file

from decodekit_export.bundle import export_bundle
from decodekit_export.finetune import finetune
from decodekit_export.settings import Settings

NAME = "tagline"
LICENSE = "Apache-2.0. Trained from scratch on text that export/recipes/tagline generates."

FULL = Settings(epochs=18, batch_size=64, learning_rate=3e-3, warmup=0.02, weight_decay=0.05)
MORE = Settings(epochs=2, batch_size=64, learning_rate=2e-3, warmup=0.03, weight_decay=0.05, seed=1)
MORE_PAIRS = 150_000  # eighteen passes over the 25,300 are learnt by heart; fresh ones make up for it
EARLY = Settings(epochs=3, batch_size=64, learning_rate=3e-3, warmup=0.1, weight_decay=0.05)
DEMO = Settings(epochs=20, max_seconds=80, batch_size=32, learning_rate=3e-3)


class Recipe:
    """The steps, each a folder or a file in `work` made from those before it."""

    def __init__(self, work: Path, seed: int = 0) -> None:
        self.work = work
        self.seed = seed

    def run(self) -> None:
        self.step("pairs", lambda out: pairs.write(pairs.make_split(self.seed), out))
        self.step("demo.jsonl", lambda out: write_demo(self.work / "pairs", out))
        self.step("demo-test.jsonl", lambda out: write_demo_test(self.work / "pairs", out))
        texts = self.work / "pairs/train.jsonl"
        self.step("base", lambda out: make_base(texts_of(texts), out, seed=self.seed))
        self.step("early-trained", lambda out: self.train("base", "pairs/train.jsonl", out, EARLY))
        self.step("early", lambda out: round_weights(self.work / "early-trained", out))
        self.step("demo", lambda out: self.train("early", "demo.jsonl", out, DEMO))
        self.step("full-trained", lambda out: self.train("base", "pairs/train.jsonl", out, FULL))
        self.step("more.jsonl", self.write_more)
        self.step("more-trained", lambda out: self.train("full-trained", "more.jsonl", out, MORE))
        self.step("full", lambda out: round_weights(self.work / "more-trained", out))
        for model in MODELS:
            self.step(f"{model}-bundle", lambda out, m=model: self.export(m, out))
            self.step(f"{model}-answers.jsonl", lambda out, m=model: self.ask(m, "pairs/heldout.jsonl", out))
            self.step(f"{model}-demo-answers.jsonl", lambda out, m=model: self.ask(m, "demo-test.jsonl", out))

    def step(self, name: str, make: Callable[[Path], object]) -> None:
        """Make `work/name` unless it is there; half a result never stays."""
        out, draft = self.work / name, self.work / f"draft-{name}"
        if out.exists():
            print(f"{name}: there already", flush=True)
            return
        print(f"{name} ...", flush=True)
        shutil.rmtree(draft, ignore_errors=True)
        make(draft)
        draft.replace(out)

    def write_more(self, out: Path) -> None:
        """Many more pairs of the trained combinations, without those of the validation file."""
        split, more = pairs.make_split(self.seed), pairs.make_split(self.seed, MORE_PAIRS)
        kept_out = {(pair.prompt, pair.completion) for pair in split.valid}
        rows = [asdict(pair) for pair in more.train if (pair.prompt, pair.completion) not in kept_out]
        heldout = {(pair.kind, pair.tone) for pair in split.heldout}
        assert not heldout & {(row["kind"], row["tone"]) for row in rows}
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def train(self, base: str, data: str, out: Path, settings: Settings) -> None:
        valid = self.work / ("demo-test.jsonl" if data == "demo.jsonl" else "pairs/valid.jsonl")
        settings = replace(settings, valid=valid, seed=self.seed + settings.seed)
        finetune(self.work / base, self.work / data, out, settings)

    def export(self, model: str, out: Path) -> None:
        export_bundle(self.work / model, out, compact=True, name=NAME, license=LICENSE)

    def ask(self, model: str, prompts: str, out: Path) -> None:
        answer(self.work / f"{model}-bundle", self.work / prompts, out)


def round_weights(trained: Path, out: Path) -> None:
    """The same checkpoint with its weights in float16."""
    out.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(trained / name, out / name)
    config = json.loads((trained / "config.json").read_text(encoding="utf-8")) | {"dtype": "float16"}
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    weights = {name: weight.half() for name, weight in load_file(trained / "model.safetensors").items()}
    assert all(weight.isfinite().all() for weight in weights.values())
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the embedded model and its figures.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for everything on the way")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    Recipe(args.work, args.seed).run()
    figures = measure(args.work)
    publish(args.work, figures)
    print(json.dumps(figures["full"]["heldout"], indent=1))
    return 0 if figures["full"]["heldout"]["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
