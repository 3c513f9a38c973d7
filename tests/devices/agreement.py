"""
Whether chains give the same tokens in a graph as on the host.

    agreement.py [--chains 200] [--steps 120] [--device cpu] [--seed 0]

Random chains of what runs in a graph, traced, edits and masks, at times with something behind it that does
not, for batches of 1 to 8 rows whose parameters differ. Both ways draw from the same random logits, and the
answers go on. A token that differs is listed with what it was drawn from. A chain that leaves nothing has to
fail alike. Every fifth chain runs with few candidates to a row, so that many rows are too wide.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from decodekit.answer import Answer, Token
from decodekit.errors import DecodekitError
from decodekit.graph_sampling.candidates import Candidates
from decodekit.graph_sampling.reducer import CANDIDATES, Reducer
from decodekit.history import History
from decodekit.parameters import Whole, interval, numbers
from decodekit.plain_options import plain_options
from decodekit.plugins import Registry, load_plugins
from decodekit.processors import LogitsProcessor, State
from decodekit.sampling import Sampler
from decodekit.schema import schema

LAST = ("mirostat", "skew", "xtc", "contrarian")  # at times behind the others
FIRST = ("allowed_tokens", "suppress_at_begin", "min_new_tokens", "no_repeat_ngram")  # what removes by id
FEW = 12  # candidates a row of those chains whose rows are often too wide
ALLOWED = 1e-5  # of the tokens, where a sum is rounded to the other side of an edge
VOCABULARIES = (257, 1000, 5000)  # below 4,096 columns the host has other forms
LIKELY = {"t": 3.0, "k": 80, "n": 4.0, "factor": 2.0, "curve": 4.0, "low": 2.0, "high": 2.0, "exponent": 2.0}


@dataclass
class Tally:
    """What was compared, and what differed."""

    tokens: int = 0
    in_graph: int = 0
    overflows: int = 0
    failures: int = 0  # answers that left no candidate, both ways
    differing: list[str] = field(default_factory=list)  # tokens
    edges: list[str] = field(default_factory=list)  # the same token, drawn from other columns

    @property
    def holds(self) -> bool:
        return len(self.differing) <= self.tokens * ALLOWED


@dataclass(frozen=True)
class Alternates(LogitsProcessor):
    """Lets through what is not like the newest token, modulo n; as a mask that is another one every step."""

    n: int

    def mask(self, row: History, state: State) -> Any:
        return np.packbits(np.arange(max(VOCABULARIES)) % self.n != row.ids[-1] % self.n, bitorder="little")


def traceable(registry: Registry, reducer: Reducer, most: int | None = None) -> list[str]:
    """Names of the strategies that run in a graph, at most so many."""
    found = []
    for name, (factory, _) in sorted(registry.entries.items()):
        if len(found) == most:
            break
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
    for option in {"ids", "bias"} & options.keys():
        ids = chance.sample(range(VOCABULARIES[0]), chance.randint(1, 200))
        options[option] = ids if option == "ids" else {id: chance.uniform(-6, 6) for id in ids}
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
        told = [plan.told(one.history, one.states) for plan, one in zip(plans, graph, strict=True)]
        found = reducer.reduce(plans, logits, told)
        for row, (one, other) in enumerate(zip(host, graph, strict=True)):
            taken = [_taken(one, logits[row : row + 1]), _taken(other, logits[row : row + 1], found[row])]
            expected, got = taken
            if isinstance(expected, str) or isinstance(got, str):
                tally.failures += 1
                if expected != got:
                    tally.differing.append(f"step {step}, {chains[row]}: {expected}; {got}")
                return tally
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


def _taken(answer: Answer, logits: Any, candidates: Candidates | None = None) -> Token | str:
    """The next token, or why there is none."""
    try:
        return answer.take(logits, candidates)
    except DecodekitError as exc:
        return str(exc)


def random_batches(
    names: Sequence[str], registry: Registry, chance: random.Random, count: int
) -> Iterator[list[list[LogitsProcessor]]]:
    """Batches of 1 to 8 rows: a chain for each batch, parameters for each row."""
    for _ in range(count):
        chosen = sorted(chance.sample(names, chance.randint(1, 4)), key=lambda name: name not in FIRST)
        chosen += [chance.choice(LAST)] if chance.random() < 0.25 else []
        alternates = chance.random() < 0.2
        yield [
            [Alternates(chance.randint(2, 5))] * alternates
            + [made(registry, name, chance) for name in chosen if name in registry.entries]
            for _ in range(chance.randint(1, 8))
        ]


def agreement(
    registry: Registry, names: Sequence[str], chains: int, steps: int, device: str = "cpu", seed: int = 0
) -> Tally:
    """The tally of random chains of the strategies with these names."""
    chance, total = random.Random(seed), Tally()
    for number, batch in enumerate(random_batches(names, registry, chance, chains)):
        vocabulary = VOCABULARIES[number % len(VOCABULARIES)]
        reducer = Reducer(vocabulary, device=device, threads=1, most=FEW if number % 5 == 4 else CANDIDATES)
        tally = compare(batch, reducer, chance, steps)
        total.tokens += tally.tokens
        total.in_graph += tally.in_graph
        total.overflows += tally.overflows
        total.failures += tally.failures
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
    names = traceable(registry, Reducer(VOCABULARIES[0], device=args.device, threads=1))
    tally = agreement(registry, names, args.chains, args.steps, args.device, args.seed)
    for line in (*tally.differing, *tally.edges):
        print(line)
    print(
        f"{args.chains} chains, {tally.tokens:,} tokens, {tally.in_graph:,} from a graph, "
        f"{tally.overflows:,} too wide for one, {tally.failures} answers that left nothing; "
        f"{len(tally.differing)} tokens differ, allowed "
        f"{tally.tokens * ALLOWED:.1f}; {len(tally.edges)} are the same from other columns"
    )
    return 0 if tally.holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
