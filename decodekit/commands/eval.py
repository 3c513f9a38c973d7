"""`decodekit eval MODEL DATA`."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from pathlib import Path

from decodekit.commands.asking import add_chain, settings
from decodekit.commands.batch import add_files, add_running, check_defaults, given, loaded, run_job
from decodekit.errors import ParameterError
from decodekit.hookspecs import Command
from decodekit.parameters import whole
from decodekit.plugins import Plugins


class Eval(Command):
    """decodekit eval MODEL DATA"""

    help = "answers beside those that were wanted, under one chain or several"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        add_files(parser, "prompt and completion a row: JSON lines, CSV, Parquet")
        parser.add_argument(
            "--metric", default="exact,prefix", metavar="NAME,...", help="exact, prefix, regex, logprob"
        )
        parser.add_argument("--regex", metavar="PATTERN", help="what regex looks for; its first group counts")
        parser.add_argument("--limit", type=int, metavar="N", help="only the first rows")
        add_chain(parser)
        parser.add_argument(
            "--sweep",
            action="append",
            default=[],
            metavar="NAME=VALUE,...",
            help="vary a strategy; several: a grid",
        )
        parser.add_argument(
            "--chain", action="append", default=[], metavar="CHAIN", help="compare whole chains; repeat it"
        )
        parser.add_argument("--plot", metavar="FILE", help="write the values and intervals as SVG")
        add_running(parser)
        parser.add_argument("--json", action="store_true", help="the report as one JSON object")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.evaluation.evaluating import Evaluating
        from decodekit.evaluation.metrics import metrics
        from decodekit.evaluation.plot import svg
        from decodekit.evaluation.points import points
        from decodekit.evaluation.report import report
        from decodekit.gathering import AHEAD
        from decodekit.jobs.storage import write_whole

        names = [name.strip() for name in args.metric.split(",")]
        found = metrics(names, args.regex)
        chains = points(args.process or [], args.sweep, args.chain)
        if args.limit is not None:
            whole("--limit", args.limit, "[1, inf)")
        results = Path(args.out)
        with closing(loaded(args, self.plugins)) as decoder:
            options = given(settings(args))
            seed = options.pop("seed", None)
            for chain in chains:
                check_defaults(decoder, chain, options)
            asked = {"chains": chains, **options, "seed": seed, "metric": names, "regex": args.regex}
            run_job(
                args,
                decoder,
                {**asked, "limit": args.limit},
                results,
                lambda seed: Evaluating(decoder, chains, found, "logprob" in names, options, seed),
                seed=seed,
                ordered=True,
                ahead=AHEAD * args.max_rows,
            )
        with results.open("rb") as file:
            said = report(
                map(json.loads, file),
                [", ".join(c) or "greedy" for c in chains],
                [*found],
                logprob="logprob" in names,
            )
        if not said.rows:
            raise ParameterError(f"{args.input}: no row was answered; {results} says why")
        if args.plot is not None:
            write_whole(Path(args.plot), svg(said, Path(args.input).name).encode())
        if args.json:
            print(json.dumps(said.to_json(), ensure_ascii=False))
        else:
            console.show_report(args.input, said)
        return 1 if said.failed else 0
