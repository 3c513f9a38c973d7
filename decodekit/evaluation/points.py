"""
Points: the chains that an evaluation compares.

    -p temperature=0.8 --sweep top_p=0.8,0.9     two chains, the second strategy varied
    --sweep temperature=0.5,1 --sweep top_p=0.8,1   four, each with each
    --chain greedy --chain "temperature=0.8"     those
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from decodekit.errors import ParameterError

MOST = 64  # chains


def points(base: Sequence[str], sweeps: Sequence[str], chains: Sequence[str]) -> list[list[str]]:
    """The chains, each as texts in order. A strategy that is varied stays in its place in `base`."""
    if chains:
        if base or sweeps:
            raise ParameterError("--chain excludes -p and --sweep; write each chain whole")
        found = [[chain] for chain in chains]
    else:
        varied = [_values(sweep) for sweep in sweeps]
        names = [name for name, _ in varied]
        if len({*names}) < len(names):
            raise ParameterError(f"--sweep must vary each parameter once, got {', '.join(names)}")
        found = [
            _with(base, dict(zip(names, chosen))) for chosen in product(*(values for _, values in varied))
        ]
    if len(found) > MOST:
        raise ParameterError(f"at most {MOST} chains are compared, got {len(found)}; vary less")
    return found


def _values(sweep: str) -> tuple[str, list[str]]:
    name, equals, values = sweep.partition("=")
    listed = [value.strip() for value in values.split(",")]
    if not (name.strip() and equals and all(listed)):
        raise ParameterError(f"--sweep must be NAME[.PARAMETER]=VALUE,VALUE, got {sweep!r}")
    return name.strip(), listed


def _with(base: Sequence[str], chosen: dict[str, str]) -> list[str]:
    left, chain = dict(chosen), []
    for text in base:
        name = text.partition("=")[0].strip()
        chain.append(f"{name}={left.pop(name)}" if name in left else text)
    return [*chain, *(f"{name}={value}" for name, value in left.items())]
