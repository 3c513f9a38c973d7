"""
onnxruntime-genai's sampler, apart from a model: a folder it loads whose graph costs nothing.

Its generator takes logits from outside (`set_logits`), so that only the choice of a token is timed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime_genai as genai
from onnx import TensorProto, helper

HEAD = 8
CUTS = ("top_k", "top_p")  # without one of them it takes the best


class Choice:
    """A choice from logits float32 [1, V]; `prepare` hands them over, untimed, before each."""

    def __init__(self, chain: Mapping[str, float | None], logits: np.ndarray) -> None:
        self._generator = _generator(chain, logits.shape[-1])
        self._logits = logits[None]

    def prepare(self) -> None:
        self._generator.get_logits()  # runs the graph, which it wants to have done before others are set
        self._generator.set_logits(self._logits)

    def __call__(self) -> int:
        self._generator.generate_next_token()
        return int(self._generator.get_next_tokens()[0])


def _generator(chain: Mapping[str, float | None], vocabulary: int) -> Any:
    model = _model(vocabulary)
    options: dict[str, Any] = {name: value for name, value in chain.items() if value is not None}
    options = {"top_k": 0, **options, "do_sample": "greedy" not in chain, "max_length": 1 << 16}
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(**options)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(np.zeros(1, np.int32))
    return generator


@cache
def _model(vocabulary: int) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), vocabulary)
        return genai.Model(folder)


def _write(folder: Path, vocabulary: int) -> None:
    """A model of one layer whose logits are zeros and whose cache grows by zeros."""
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "new"])
    mask = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "all"])
    past, present = (
        [
            helper.make_tensor_value_info(f"{prefix}.0.{kind}", TensorProto.FLOAT, ["batch", 1, length, HEAD])
            for kind in ("key", "value")
        ]
        for prefix, length in (("past_key_values", "past"), ("present", "all"))
    )
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "new", vocabulary])
    nodes = [
        helper.make_node("Shape", ["input_ids"], ["shape"]),
        helper.make_node("Concat", ["shape", "vocabulary"], ["all_logits"], axis=0),
        helper.make_node("ConstantOfShape", ["all_logits"], ["logits"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Slice", ["shape", "one", "two"], ["columns"]),
        helper.make_node("Concat", ["rows", "one", "columns", "head"], ["new_shape"], axis=0),
        helper.make_node("ConstantOfShape", ["new_shape"], ["new"]),
        *(
            helper.make_node("Concat", [before.name, "new"], [after.name], axis=2)
            for before, after in zip(past, present, strict=True)
        ),
    ]
    numbers = {"vocabulary": vocabulary, "zero": 0, "one": 1, "two": 2, "head": HEAD}
    constants = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "zeros", [ids, mask, *past], [logits, *present], constants)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": "model.onnx",
        "head_size": HEAD,
        "hidden_size": HEAD,
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "num_key_value_heads": 1,
    }
    model = {
        "bos_token_id": 1,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
        "context_length": 1 << 17,
        "decoder": decoder,
        "type": "llama",
        "vocab_size": vocabulary,
    }
    search = {"max_length": 1 << 16, "past_present_share_buffer": False}
    config = {"model": model, "search": search}
    (folder / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
