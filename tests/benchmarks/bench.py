"""
How fast decodekit decodes, beside its peers and beside the limit of the same graph.

    python tests/benchmarks/bench.py [--quick] [--only CASE] [--rounds 5] [--tokens 64]

Every engine is a process of its own (`workers/`), has the same weights (`checkpoint.py`) and
is asked turn by turn, so that a noisy machine disturbs all alike. `peers.py` and `own.py`
say what is asked and where the bars are. Prints every case, keeps all rounds in
docs/figures/decoding.json and renders docs/benchmarks.md from it; a case measured alone
replaces its own part. --quick only proves that everything runs, and writes neither.

Ends with status 1 if something failed or a bar was missed.
"""

import argparse
import os
import sys

import own
import peers
from case import Case, Run
from engines import ROOT
from report import failures, missed, record, save, section, write_page

FIGURES = ROOT / "docs" / "figures" / "decoding.json"
PAGE = ROOT / "docs" / "benchmarks.md"
EXTRA = ("soak",)  # cases that run only when named


def cases(tokens: int) -> dict[str, Case]:
    """All cases by name, decoding that many tokens a turn."""
    made = [
        peers.stream_fp32(tokens),
        peers.stream_int4(tokens),
        peers.graphs(tokens),
        peers.batch(tokens),
        own.overhead(tokens),
        own.copying(tokens),
        own.sampling(tokens),
        own.context(tokens),
        own.batch_curve(tokens),
        own.vocabulary(tokens),
        own.deterministic(tokens),
        peers.memory(tokens),
        own.soak(),
    ]
    return {case.name: case for case in made}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one short round, no bars, nothing written")
    parser.add_argument("--only", action="append", metavar="CASE", choices=list(cases(2)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=64, help="that a turn decodes")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.tokens = 1, 12

    if (load := os.getloadavg()[0]) > 0.5:
        print(f"load average {load:.1f}: somebody else computes, which slows some engines more than others\n")
    known, records = cases(args.tokens), {}
    for name in args.only or [name for name in known if name not in EXTRA]:
        case = known[name]
        rounds = args.rounds if case.rounds is None or args.quick else case.rounds
        with Run(case) as run:
            for number in range(rounds + 1):
                run.round(counted=number > 0)
        records[name] = record(case, run.taken, run.versions, rounds)
        print(section(records[name]), flush=True)
        if not args.quick:
            saved = save(records, FIGURES)
            write_page({name: saved[name] for name in known if name in saved}, PAGE)

    wrong = [f"{name}: failed: {what}" for name, r in records.items() for what in failures(r)]
    if not args.quick:
        wrong += [f"{name}: missed: {what}" for name, r in records.items() for what in missed(r)]
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
