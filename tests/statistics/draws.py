"""
What the draw does over a million draws of each strategy, and whether its noise is independent of its place.

    python tests/statistics/draws.py            # a few minutes; prints a table, writes the figures
    python tests/statistics/draws.py --draws 20000

Seeds are fixed, so that the numbers are the same every time. Expected probabilities are those of the
slow references in tests/exactness, not of decodekit.
"""

import argparse
import json
import math
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # exactness

from noise_pairs import measure_pairs
from strategy_draws import STRATEGIES, WIDE, measure_many, measure_strategy

from decodekit.plugins import load_plugins

FIGURES = Path(__file__).resolve().parents[2] / "docs" / "figures" / "sampling-statistics.json"
BAR = 5.2e-3  # total variation at a million draws
UNLIKELY = 1e-4  # least p-value of a chi-square
FAR = 5.0  # most standard errors of a correlation


def failures(strategies, pairs):
    """What is beyond its bar, in words."""
    for name, found in strategies.items():
        bar = BAR * math.sqrt(1e6 / found["draws"])
        if found["total_variation"] > bar:
            yield f"{name}: total variation {found['total_variation']:.2g}, at most {bar:.2g}"
        if found["outside"]:
            yield f"{name}: {found['outside']} draws outside the support"
    for name, found in {**strategies, **pairs}.items():
        if found["p_value"] < UNLIKELY:
            yield f"{name}: chi-square has p-value {found['p_value']:.1g}, at least {UNLIKELY:.0e}"
        if abs(found.get("standard_errors", 0.0)) > FAR:
            yield f"{name}: correlation of {found['standard_errors']:.1f} standard errors, at most {FAR:.0f}"


def measure(draws):
    """Figures of every strategy that is installed, and of the noise."""
    installed = load_plugins().logits_processors.entries
    names = [n for n, chain in STRATEGIES.items() if all(strategy in installed for strategy, _ in chain)]
    strategies = {name: measure_strategy(name, draws) for name in names}
    return {**strategies, f"{WIDE:,} candidates": measure_many(draws // 20)}, measure_pairs(draws)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--draws", type=int, default=1_000_000, help="of each strategy")
    draws = parser.parse_args().draws
    strategies, pairs = measure(draws)
    print(f"{'strategy':24}{'candidates':>12}{'total variation':>18}{'p-value':>10}{'outside':>10}")
    for name, found in strategies.items():
        figures = f"{found['candidates']:12}{found['total_variation']:18.2e}{found['p_value']:10.3f}"
        print(f"{name:24}{figures}{found['outside']:10}")
    print(f"\n{'noise beside noise':24}{'standard errors':>18}{'p-value':>10}")
    for name, found in pairs.items():
        correlation = f"{found['standard_errors']:18.2f}" if "standard_errors" in found else " " * 18
        print(f"{name:24}{correlation}{found['p_value']:10.3f}")
    FIGURES.write_text(
        json.dumps({"draws": draws, "strategies": strategies, "noise": pairs}, indent=1) + "\n"
    )
    found = list(failures(strategies, pairs))
    total = sum(figures["draws"] for figures in strategies.values())
    print("\n" + ("\n".join(found) or f"all {total:,} draws within their bars"))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
