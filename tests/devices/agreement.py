"""
Whether chains give the same tokens in a graph as on the host.

    agreement.py [--chains 200] [--steps 120] [--device cpu] [--seed 0]

Random chains of what traces, at times with something behind it that does not, for batches of 1 to 8 rows
whose parameters differ. Both ways draw from the same random logits, and the answers go on. A token that
differs is listed with the reason: how near it was to an edge.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from decodekit.answer import Answer
from decodekit.errors import DecodekitError
from decodekit.graph_sampling.reducer import Reducer
from decodekit.parameters import Whole, interval, numbers
from decodekit.plain_options import plain_options
from decodekit.plugins import Registry, load_plugins
from decodekit.processors import LogitsProcessor
from decodekit.sampling import Sampler
from decodekit.schema import schema

LAST = ("mirostat", "repetition_penalty", "skew", "frequency_penalty")  # at times behind the others
ALLOWED = 1e-5  # of the tokens, where a sum is rounded to the other side of an edge
VOCABULARIES = (257, 1000, 5000)  # below 4,096 columns the host has other forms
LIKELY = {"t": 3.0, "k": 80, "n": 4.0, "factor": 2.0, "curve": 4.0, "low": 2.0, "high": 2.0, "exponent": 2.0}


@dataclass
class Tally:
    """What was compared, and what differed."""

    tokens: int = 0
    in_graph: int = 0
    overflows: int = 0
    differing: list[str] = field(default_factory=list)  # tokens
    edges: list[str] = field(default_factory=list)  # the same token, drawn from other columns

    @property
    def holds(self) -> bool:
        return len(self.differing) <= self.tokens * ALLOWED


def traceable(registry: Registry, reducer: Reducer) -> list[str]:
    """Names of the strategies that run in a graph."""
    found = []
    for name, (factory, _) in sorted(registry.entries.items()):
        try:
            processor = registry.create(name, **plain_options(schema(factory), active=True))
        except (DecodekitError, TypeError):
            continue  # none of those without plain options traces
        if reducer.plan([processor]).done:
            found.append(name)
    return found


def made(registry: Registry, name: str, chance: random.Random) -> LogitsProcessor:
    """A strategy with random parameters of its domain, at times the neutral ones or an end."""
    factory, _ = registry.entries[name]
    options: dict[str, Any] = plain_options(schema(factory), active=True)
    for option, (number, _) in numbers(factory).items():
        low, high, *_ = interval(number.domain)
        high = min(high, LIKELY.get(option, 1.0 if high > 1e6 else high))
        value = chance.uniform(max(low, 0.01), high)
        if number.neutral is not None and chance.random() < 0.05:
            value = number.neutral
        options[option] = round(value) if isinstance(number, Whole) else value
    return registry.create(name, **options)


def compare(
    chains: Sequence[Sequence[LogitsProcessor]], reducer: Reducer, chance: random.Random, steps: int
) -> Tally:
    """Draw for rows with these chains, both ways."""
    tally = Tally()
    samplers = [Sampler(tuple(chain)) for chain in chains]
    seeds = [chance.getrandbits(53) for _ in chains]
    host = [Answer([1], s, (), seed=seed) for s, seed in zip(samplers, seeds, strict=True)]
    graph = [Answer([1], s, (), seed=seed) for s, seed in zip(samplers, seeds, strict=True)]
    plans = [reducer.plan(sampler.processors) for sampler in samplers]
    rng = np.random.default_rng(seeds[0])
    for step in range(steps):
        shape = (len(chains), reducer.vocabulary)
        sharpness = rng.choice([0.5, 2.0, 5.0], (len(chains), 1))
        logits = (rng.standard_normal(shape) * sharpness).astype(np.float32)
        for plan in plans:
            plan.misses = 0
        found = reducer.reduce(plans, logits)
        for row, (one, other) in enumerate(zip(host, graph, strict=True)):
            expected, got = one.take(logits[row : row + 1]), other.take(logits[row : row + 1], found[row])
            tally.tokens += 1
            tally.in_graph += found[row] is not None
            tally.overflows += plans[row].done > 0 and found[row] is None
            if (expected.id, expected.width) == (got.id, got.width):
                continue
            line = (
                f"step {step}, {chains[row]}: {expected.id} of {expected.width} columns on the host, "
                f"{got.id} of {got.width} in the graph"
            )
            (tally.edges if expected.id == got.id else tally.differing).append(line)
            other.newest, other.sequence, other._history = one.newest, one.sequence.copy(), one._history
            other.states = one.states
    return tally


def random_batches(
    names: Sequence[str], registry: Registry, chance: random.Random, count: int
) -> Iterator[list[list[LogitsProcessor]]]:
    """Batches of 1 to 8 rows: a chain for each batch, parameters for each row."""
    for _ in range(count):
        chosen = chance.sample(names, chance.randint(1, 4))
        chosen += [chance.choice(LAST)] if chance.random() < 0.25 else []
        rows = chance.randint(1, 8)
        yield [
            [made(registry, name, chance) for name in chosen if name in registry.entries] for _ in range(rows)
        ]


def agreement(
    registry: Registry, names: Sequence[str], chains: int, steps: int, device: str = "cpu", seed: int = 0
) -> Tally:
    """The tally of random chains of the strategies with these names."""
    chance, total = random.Random(seed), Tally()
    for number, batch in enumerate(random_batches(names, registry, chance, chains)):
        reducer = Reducer(VOCABULARIES[number % len(VOCABULARIES)], device=device)
        tally = compare(batch, reducer, chance, steps)
        total.tokens += tally.tokens
        total.in_graph += tally.in_graph
        total.overflows += tally.overflows
        total.differing += tally.differing
        total.edges += tally.edges
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--chains", type=int, default=200)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    registry = load_plugins().logits_processors
    names = traceable(registry, Reducer(VOCABULARIES[0], device=args.device))
    tally = agreement(registry, names, args.chains, args.steps, args.device, args.seed)
    for line in (*tally.differing, *tally.edges):
        print(line)
    print(
        f"{args.chains} chains, {tally.tokens:,} tokens, {tally.in_graph:,} from a graph, "
        f"{tally.overflows:,} too wide for one; {len(tally.differing)} tokens differ, allowed "
        f"{tally.tokens * ALLOWED:.1f}; {len(tally.edges)} are the same from other columns"
    )
    return 0 if tally.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
