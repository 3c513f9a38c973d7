"""
A pretrained model to start from: how it renders a pair, where it stops, how much it can read.

All that is cheap and known before the weights are loaded, so rows are checked first.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import transformers
from transformers import PreTrainedModel

from decodekit.chat import Chat
from decodekit.tokenizer import Tokenizer
from decodekit_export.checkpoint import TEMPLATE, Checkpoint, open_checkpoint
from decodekit_export.errors import CheckpointError
from decodekit_export.plain_files import plain_file
from decodekit_export.stop_ids import stop_ids

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True, slots=True)
class Pretrained:
    """A checkpoint with what training needs to know of it.

    chat            renders as the runtime does for the bundle that will come of it
    stop_ids        every token that ends an answer, at least one
    context_length  tokens a row may have
    """

    checkpoint: Checkpoint
    chat: Chat
    stop_ids: tuple[int, ...]
    context_length: int

    @property
    def tokenizer(self) -> Tokenizer:
        return self.checkpoint.tokenizer

    def load_model(self) -> PreTrainedModel:
        """The model in float32, ready to be trained."""
        model = self.checkpoint.load_model()
        model.requires_grad_(True)
        model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
        # An embedding does not learn the id it calls padding, which for many models is a stop token.
        model.get_input_embeddings().padding_idx = None  # type: ignore[assignment]
        return model

    def save_tokenizer(self, folder: Path) -> None:
        """Copy what encodes text, byte for byte; the template goes to its own file."""
        for name in TOKENIZER_FILES:
            if (self.checkpoint.path / name).exists():
                shutil.copyfile(plain_file(self.checkpoint.path, name), folder / name)
        if (template := self.checkpoint.chat_template) is not None:
            (folder / TEMPLATE).write_text(template, encoding="utf-8")


def open_pretrained(path: Path) -> Pretrained:
    """The checkpoint in a folder, read but for its weights."""
    checkpoint = open_checkpoint(path)
    config = transformers.AutoConfig.for_model(**checkpoint.config)
    longest = getattr(config, "max_position_embeddings", None)
    if not isinstance(longest, int):
        raise CheckpointError(f"{path}: config.json has no max_position_embeddings; add it")
    stops = stop_ids(checkpoint, config.vocab_size)
    checkpoint.tokenizer.stop_ids = frozenset(stops)
    chat = Chat(checkpoint.tokenizer, checkpoint.chat_template, min(stops))
    return Pretrained(checkpoint, chat, tuple(stops), longest)
