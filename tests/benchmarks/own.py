"""Cases of decodekit beside itself and the limit, and how good it has to be there."""

from __future__ import annotations

from collections.abc import Mapping

from case import Case, Figure, Taken, Turn
from checkpoint import SHAPES
from parts import (
    OWN,
    OWN4,
    ROWS,
    median,
    ragged,
    random_ids,
    ratio,
    rows,
    same_ids,
    step,
    tokens_a_second,
)


def overhead(tokens: int) -> Case:
    turns = {
        f"{count} row{'s' * (count > 1)}": Turn(
            "decodekit",
            OWN,
            {"do": "overhead", "prompts": ragged(count), "tokens": 4 * tokens},
            lambda answer: float(answer["microseconds"]),
        )
        for count in (1, ROWS)
    }
    return Case(
        "overhead",
        "Python around a step",
        "Greedy, 49,152 ids: a step's time outside onnxruntime and outside the chain.",
        "us",
        turns,
        [
            median("1 row", at_most=60),
            median(f"{ROWS} rows", at_most=250),
        ],
    )


def copying(tokens: int) -> Case:
    def turn(speculate: str) -> Turn:
        text = {"prompt": random_ids(32), "own": 256, "tokens": 2 * tokens}
        command = {"do": "stream_own_text", **text, "speculate": speculate}
        return Turn("decodekit", "loop/bundle", command, tokens_a_second(2 * tokens))

    return Case(
        "copying",
        "Speculation where the text repeats",
        "The model whose attention adds nothing, so that its greedy text is a circle of 98 tokens: "
        "it has gone round twice and goes on.",
        "tokens/s",
        {"plain": turn("off"), "lookup": turn("lookup")},
        [ratio("lookup", "plain", at_least=2.0), same_ids("lookup", "plain", 2 * tokens)],
    )


def sampling(tokens: int) -> Case:
    def turn(speculate: str) -> Turn:
        command = {"do": "stream", "prompt": random_ids(128), "tokens": tokens}
        drawn = {"chain": "temperature=1", "speculate": speculate}
        return Turn("decodekit", OWN, command | drawn, tokens_a_second(tokens))

    return Case(
        "sampling",
        "Speculation where it does not",
        "Sampled at temperature 1 from a nearly flat distribution: no guess is ever right.",
        "tokens/s",
        {"plain": turn("off"), "auto": turn("auto")},
        [ratio("auto", "plain", at_least=0.97), same_ids("auto", "plain", tokens)],
    )


def context(tokens: int) -> Case:
    lengths = (128, 512, 1024, 2048)
    turns = {
        f"{name}, {length}": step(engine, OWN, random_ids(length), tokens)
        for length in lengths
        for name, engine in (("decodekit", "decodekit"), ("bare loop", "bare"))
    }

    def growth(taken: Mapping[str, Taken], name: str) -> float:
        return taken[f"{name}, {lengths[-1]}"].median / taken[f"{name}, {lengths[0]}"].median

    return Case(
        "context",
        "Length of the context, float32",
        "One greedy stream behind prompts of that many ids.",
        "ms a step",
        turns,
        [
            *(ratio(f"decodekit, {length}", f"bare loop, {length}") for length in lengths),
            Figure(
                f"growth of decodekit's step from {lengths[0]} to {lengths[-1]}, over the bare loop's",
                lambda taken: growth(taken, "decodekit") / growth(taken, "bare loop"),
                at_most=1.03,
            ),
        ],
    )


def batch_curve(tokens: int) -> Case:
    counts = (1, 2, 4, 8, 16, 32)
    turns = {}
    for count in counts:
        turns[f"decodekit, {count}"] = rows("decodekit", OWN, ragged(count), tokens, max_rows=max(counts))
        turns[f"bare loop, {count}"] = rows("bare", OWN, ragged(count), tokens)
    return Case(
        "batch-curve",
        "Requests at once, float32",
        "As with 16 requests, for other numbers of them.",
        "tokens/s",
        turns,
        [ratio(f"decodekit, {count}", f"bare loop, {count}") for count in counts],
    )


def vocabulary(tokens: int) -> Case:
    models = {f"{SHAPES[name].vocabulary:,} ids": name for name in ("midv", "bigv")}
    turns = {
        f"{name}, {size}": step(engine, f"{model}/bundle", random_ids(128), 4 * tokens)
        for size, model in models.items()
        for name, engine in (("decodekit", "decodekit"), ("bare loop", "bare"))
    }
    return Case(
        "vocabulary",
        "Size of the vocabulary, float32",
        "One greedy stream of a model with two small layers, so that what is around it shows.",
        "ms a step",
        turns,
        [ratio(f"decodekit, {size}", f"bare loop, {size}") for size in models],
    )


def deterministic(tokens: int) -> Case:
    turns = {}
    for name, model in (("float32", OWN), ("4 bits", OWN4)):
        turns[name] = rows("decodekit", model, ragged(ROWS), tokens)
        turns[f"{name}, deterministic"] = rows("decodekit", model, ragged(ROWS), tokens, deterministic=True)
    return Case(
        "deterministic",
        f"The price of deterministic=True, {ROWS} requests at once",
        "Rows are decoded one by one, so that a row's neighbours cannot change its tokens.",
        "tokens/s",
        turns,
        [ratio(f"{name}, deterministic", name) for name in ("float32", "4 bits")],
    )


def soak() -> Case:
    requests = [random_ids(8, seed) for seed in range(1000)]
    command = {"do": "answer_and_memory", "prompts": requests, "tokens": 4}
    return Case(
        "soak",
        "Memory of 10,000 requests",
        "The model with a large vocabulary and two small layers; after every thousand short requests.",
        "MB",
        {"decodekit": Turn("decodekit", "bigv/bundle", command, lambda answer: answer["now"] / 1e6)},
        [Figure("growth after the first thousand, MB", growth_since_first, at_most=10)],
        rounds=9,
    )


def growth_since_first(taken: Mapping[str, Taken]) -> float:
    turn = taken["decodekit"].whole
    return max(turn.values) - turn.first
