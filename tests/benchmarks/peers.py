"""Cases beside other engines, and how good decodekit has to be there."""

from __future__ import annotations

from collections.abc import Mapping

from case import Case, Figure, Taken, Turn
from checkpoint import SHAPES
from engines import MODELS
from parts import (
    BUILT,
    BUILT4,
    BUILT4_64,
    F32,
    OWN,
    OWN4,
    OWN4_64,
    Q4_0,
    ROWS,
    ragged,
    random_ids,
    ratio,
    rows,
    same_ids,
    stream,
)


def stream_fp32(tokens: int) -> Case:
    prompt = random_ids(128)
    engines = {
        "decodekit": ("decodekit", OWN),
        "bare loop": ("bare", OWN),
        "decodekit, builder's graph": ("decodekit", BUILT),
        "bare loop, builder's graph": ("bare", BUILT),
        "onnxruntime-genai": ("genai", BUILT),
        "llama.cpp, F32": ("llamacpp", F32),
        "optimum": ("optimum", "smol/optimum"),
        "transformers": ("transformers", "smol/checkpoint"),
    }
    return Case(
        "stream-fp32",
        "One greedy stream, float32",
        "128 random ids, then greedy decoding; from the first token to the last. "
        "The builder's graph is that of onnxruntime-genai's model builder.",
        "tokens/s",
        {name: stream(*where, prompt, tokens) for name, where in engines.items()}
        | {"onnxruntime-genai, its own threads": stream("genai", BUILT, prompt, tokens, threads=0)},
        [
            ratio("decodekit", "bare loop", at_least=0.97),
            ratio("decodekit, builder's graph", "bare loop, builder's graph", at_least=0.97),
            ratio("decodekit, builder's graph", "onnxruntime-genai", at_least=1.25),
            ratio("decodekit, builder's graph", "onnxruntime-genai, its own threads"),
            ratio("decodekit", "llama.cpp, F32", at_least=1.0),
            ratio("decodekit", "optimum", at_least=1.9),
            ratio("decodekit", "transformers", at_least=3.0),
            ratio("decodekit, builder's graph", "llama.cpp, F32"),
            ratio("decodekit, builder's graph", "optimum"),
            ratio("decodekit, builder's graph", "transformers"),
            ratio("decodekit", "decodekit, builder's graph"),
            *(same_ids(name, "transformers", min(tokens, 16)) for name in engines if name != "transformers"),
        ],
    )


def stream_int4(tokens: int) -> Case:
    prompt = random_ids(128)
    engines = {
        "decodekit": ("decodekit", OWN4),
        "bare loop": ("bare", OWN4),
        "decodekit, blocks of 64": ("decodekit", OWN4_64),
        "decodekit, builder's graph": ("decodekit", BUILT4),
        "onnxruntime-genai": ("genai", BUILT4),
        "llama.cpp, Q4_0": ("llamacpp", Q4_0),
    }
    return Case(
        "stream-int4",
        "One greedy stream, 4 bits",
        "As before. All quantizers use blocks of 32 in every matrix, where nothing else is said.",
        "tokens/s",
        {name: stream(*where, prompt, tokens) for name, where in engines.items()}
        | {"onnxruntime-genai, its own threads": stream("genai", BUILT4, prompt, tokens, threads=0)},
        [
            ratio("decodekit", "bare loop", at_least=0.97),
            ratio("decodekit, builder's graph", "onnxruntime-genai", at_least=1.25),
            ratio("decodekit, builder's graph", "onnxruntime-genai, its own threads"),
            ratio("decodekit", "onnxruntime-genai"),
            ratio("decodekit", "llama.cpp, Q4_0", at_least=1.1),
            ratio("decodekit, blocks of 64", "llama.cpp, Q4_0"),
            same_ids("decodekit", "bare loop", min(tokens, 16)),
        ],
    )


def graphs(tokens: int) -> Case:
    prompt = random_ids(128)
    pairs = {"float32": (OWN, BUILT), "4 bits, blocks of 32": (OWN4, BUILT4)}
    pairs |= {"4 bits, blocks of 64": (OWN4_64, BUILT4_64)}

    def sizes(own: str, built: str) -> float:
        names = ("model.onnx", "model.onnx.data")
        size = {folder: sum((MODELS / folder / n).stat().st_size for n in names) for folder in (own, built)}
        return size[own] / size[built]

    turns, figures = {}, []
    for name, (own, built) in pairs.items():
        turns[f"{name}, own"] = stream("bare", own, prompt, tokens, fresh=True)
        turns[f"{name}, builder's"] = stream("bare", built, prompt, tokens, fresh=True)
        figures.append(ratio(f"{name}, own", f"{name}, builder's", at_least=0.97))
        figures.append(
            Figure(f"bytes of graph and weights, {name}", lambda _, p=(own, built): sizes(*p), at_most=1.0)
        )
    return Case(
        "graphs",
        "The same loop over two graphs",
        "The bare loop over what `decodekit export` writes and over what onnxruntime-genai's model builder "
        "writes of the same weights, one greedy stream behind 128 random ids. Every turn is a fresh process, "
        "and their order is turned every round: of two graphs in memory, the one loaded first is slower.",
        "tokens/s",
        turns,
        figures,
    )


def batch(tokens: int) -> Case:
    prompts = ragged(ROWS)
    return Case(
        "batch",
        f"{ROWS} requests at once, float32",
        "Prompts of 40 to 200 ids; all tokens of the time in which every request is decoding.",
        "tokens/s",
        {
            "decodekit": rows("decodekit", OWN, prompts, tokens),
            "decodekit, one stream": stream("decodekit", OWN, random_ids(120), tokens),
            "bare loop": rows("bare", OWN, prompts, tokens),
            "llama.cpp, F32": rows("llamacpp", F32, prompts, tokens),
        },
        [
            ratio("decodekit", "decodekit, one stream", at_least=5.0),
            ratio("decodekit", "bare loop", at_least=0.9),
            ratio("decodekit", "llama.cpp, F32"),
        ],
    )


def memory(tokens: int) -> Case:
    prompt, megabyte = random_ids(128), 1e6
    shape, capacity = SHAPES["smol"], 1 << (len(prompt) + tokens - 1).bit_length()
    needed = 4 * shape.parameters + 2 * shape.layers * shape.kv_heads * shape.head_dim * 4 * capacity

    def turn(engine: str, model: str, **options: object) -> Turn:
        command = {"do": "stream_and_memory", "prompt": prompt, "tokens": tokens}
        return Turn(engine, model, command, lambda answer: answer["peak"] / megabyte, options, fresh=True)

    def over_need(taken: Mapping[str, Taken]) -> float:
        return taken["decodekit"].median / (needed / megabyte + 120)

    return Case(
        "memory",
        "Peak memory, float32",
        "A fresh process that loads the model and decodes one greedy stream.",
        "MB",
        {
            "decodekit": turn("decodekit", OWN, prefix_bytes=None),
            "bare loop": turn("bare", OWN),
            "onnxruntime-genai": turn("genai", BUILT),
            "llama.cpp, F32": turn("llamacpp", F32),
        },
        [Figure("decodekit / (weights + cache + 120 MB)", over_need, at_most=1.1)],
    )
