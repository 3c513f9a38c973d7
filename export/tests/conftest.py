"""Tiny random models of several architectures, as checkpoints and as graphs, each made once a session."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel

from decodekit_export.cache import CacheShape, cache_shape
from decodekit_export.checkpoint import open_checkpoint
from decodekit_export.graph import GRAPHS
from decodekit_export.graph_file import FILE, write
from decodekit_export.precision import Precision
from decodekit_export.to_onnx import to_onnx

CONTEXT = 96
SPECIAL = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WIDTHS = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
}
GPT2_WIDTHS = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    # An epsilon so small that an optimiser with a tolerance takes it for zero: see test_to_onnx.
    "Llama": {**WIDTHS, "rms_norm_eps": 1e-9, "pad_token_id": 0},
    "Qwen2": {**WIDTHS, "tie_word_embeddings": True},
    "Mistral": {**WIDTHS, "sliding_window": 8},
    "Gemma2": {
        **WIDTHS,
        "head_dim": 8,
        "query_pre_attn_scalar": 8,
        "sliding_window": 8,
        "attn_logit_softcapping": 5.0,
    },
    "GPT2": GPT2_WIDTHS,
    "GptOss": {
        **WIDTHS,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 8,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "pad_token_id": 0,
    },
}


@dataclass(frozen=True)
class Drawn:
    """A graph on disk, the model in float32, and that which it was drawn from, if it is another."""

    path: Path
    model: PreTrainedModel
    kind: str
    shape: CacheShape
    context_length: int = CONTEXT
    twin: PreTrainedModel | None = None


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small are slower on two threads, and very slow where the cores are shared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a checkpoint of that architecture. Do not write to it."""

    @cache
    def make(architecture: str) -> Path:
        folder = tmp_path_factory.mktemp("checkpoints") / architecture.lower()
        save_checkpoint(folder, random_model(architecture), CHATML)
        return folder

    return make


@pytest.fixture
def folder(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of the Llama checkpoint, free to be spoilt."""
    return Path(shutil.copytree(checkpoint("Llama"), tmp_path / "llama"))


@pytest.fixture
def change() -> Callable[..., None]:
    """Set fields of the JSON object in a file."""

    def write(path: Path, **fields: Any) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return write


@pytest.fixture(scope="session")
def drawn(
    tmp_path_factory: pytest.TempPathFactory, checkpoint: Callable[[str], Path]
) -> Callable[..., Drawn]:
    """Graph of that architecture and cache kind. Do not write to it."""

    @cache
    def draw(architecture: str, kind: str, dtype: str) -> Drawn:
        source = open_checkpoint(checkpoint(architecture))
        model, twin = source.load_model(), None
        if dtype != "float32":
            twin = Precision(dtype).load(source, model)
        shape = cache_shape(twin or model)
        folder = tmp_path_factory.mktemp(f"{architecture.lower()}-{kind}")
        write(to_onnx(GRAPHS[kind](twin or model, shape)), folder)
        return Drawn(folder / FILE, model, kind, shape, twin=twin)

    return lambda architecture, kind="in_place", dtype="float32": draw(architecture, kind, dtype)


@pytest.fixture(scope="session")
def new_checkpoint() -> Callable[..., Path]:
    """Write a checkpoint of that architecture to a folder, with changes to its configuration."""

    def write_to(
        folder: Path, architecture: str = "Llama", template: str | None = CHATML, **changes: Any
    ) -> Path:
        save_checkpoint(folder, random_model(architecture, **changes), template)
        return folder

    return write_to


def random_model(architecture: str, **changes: Any) -> PreTrainedModel:
    """Weights large enough that attention, positions and windows matter."""
    torch.manual_seed(0)
    options = {
        "vocab_size": tokenizer().get_vocab_size(),
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **ARCHITECTURES[architecture],
        **changes,
    }
    config = getattr(transformers, f"{architecture}Config")(**options)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    return model


def save_checkpoint(folder: Path, model: PreTrainedModel, template: str | None) -> None:
    model.save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "</s>", "chat_template": template})
    )


@cache
def tokenizer() -> tokenizers.Tokenizer:
    """A byte-level tokenizer of some 300 tokens."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet
    )
    made.train_from_iterator([Path(__file__).read_text()] * 2, trainer)
    return made
