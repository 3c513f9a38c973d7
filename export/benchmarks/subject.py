"""What is trained when training is measured: models that have learnt nothing, and rows."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

TAGLINE = Path(__file__).parents[1] / "recipes" / "tagline"
LONGEST = 1024  # tokens a model can read
WINDOW = 192  # tokens of a packed window


@dataclass(frozen=True)
class Shape:
    """A Llama, and how much of a run of it is measured.

    batch   rows of a step; packed, a fourth of it in windows
    warm    steps that are not measured
    steps   steps that are
    """

    about: str
    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: tuple[int, int]
    batch: int
    warm: int
    steps: int

    def save_base(self, folder: Path) -> None:
        """Random weights, with the tokenizer of the embedded model."""
        import torch
        import transformers

        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads[0],
            num_key_value_heads=self.heads[1],
            max_position_embeddings=LONGEST,
            eos_token_id=0,
            tie_word_embeddings=True,
        )
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
        for file in (TAGLINE / "checkpoint").glob("*"):
            if file.name.startswith(("tokenizer", "chat_template", "generation")):
                shutil.copy(file, folder)


SHAPES = {
    "small": Shape("3.5 million weights", 1536, 256, 688, 4, (4, 2), batch=16, warm=5, steps=40),
    "third": Shape(
        "a third of SmolLM2-135M: 10 of its 30 layers, 16,384 of its 49,152 ids, 45 million weights",
        *(16384, 576, 1536, 10, (9, 3)),
        batch=16,
        warm=3,
        steps=12,
    ),
}


def save_rows(folder: Path) -> None:
    """Pairs of 20 to 50 tokens; and some of them strung together, to rows of 20 to 500."""
    chance = random.Random(0)
    pairs = [json.loads(line) for line in (TAGLINE / "demo.jsonl").read_text().splitlines()]
    chance.shuffle(pairs)
    mixed = []
    for _ in range(800):
        asked, answered = (chance.choices(pairs, k=chance.randint(1, most)) for most in (12, 8))
        prompt, completion = (p["prompt"] for p in asked), (p["completion"] for p in answered)
        mixed.append({"prompt": " ".join(prompt), "completion": " ".join(completion)})
    for name, rows in (("short pairs", pairs), ("mixed lengths", mixed)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
