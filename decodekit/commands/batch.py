"""`decodekit batch MODEL IN OUT`."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodekit.commands.asking import add_chain, add_machine, settings
from decodekit.errors import ParameterError
from decodekit.hookspecs import Command
from decodekit.parameters import whole
from decodekit.plugins import Plugins

if TYPE_CHECKING:
    from decodekit.decoder import Decoder
    from decodekit.jobs.answering import Answerer
    from decodekit.jobs.sources import Source
    from decodekit.jobs.summary import Summary


class Batch(Command):
    """decodekit batch MODEL IN OUT"""

    help = "decode the rows of a file; the same command again goes on where it ended"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        add_files(
            parser, "rows: JSON lines, OpenAI's batch format or plain; CSV; Parquet; - is standard input"
        )
        add_chain(parser)
        parser.add_argument("-n", type=int, help="answers per row")
        parser.add_argument("--logprobs", type=int, metavar="K", help="each token's K best alternatives too")
        parser.add_argument(
            "--score", action="store_true", help="score each row's completion instead of generating one"
        )
        parser.add_argument(
            "--order", default="input", choices=["input", "done"], help="of the records; default: input"
        )
        parser.add_argument(
            "--carry", action="append", default=[], metavar="FIELD", help="copy a field into the record"
        )
        parser.add_argument(
            "--model-name", metavar="NAME", help="what rows call the model; default: the bundle's name"
        )
        add_running(parser)
        parser.add_argument("--json", action="store_true", help="the summary as one JSON object")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.jobs import parquet, table

        as_parquet = args.out.endswith(".parquet")
        if as_parquet:
            parquet.check_installed()
        with closing(loaded(args, self.plugins)) as decoder:
            options = given({**settings(args), "logprobs": args.logprobs})
            seed = options.pop("seed", None)
            check_defaults(decoder, args.process, options, args.n)
            if args.score and (args.process or args.n is not None or options.keys() - {"adapter"}):
                raise ParameterError("--score takes no chain, no limits and no -n: they change no score")
            name = args.model_name or decoder.bundle.name
            how = {"score": args.score, "name": name}
            answerer, ahead = self.answering(args, decoder, (args.process, options, args.n), how)
            asked = {"chain": args.process, **options, "n": args.n, "seed": seed, "score": args.score}
            asked |= {"order": args.order, "carry": args.carry, "model_name": name}
            results = Path(f"{args.out}.journal" if as_parquet else args.out)
            if as_parquet and Path(args.out).exists() and not results.exists():
                raise ParameterError(f"{args.out}: is there already and no job wrote it; give another file")
            summary = run_job(
                args,
                decoder,
                asked,
                results,
                answerer,
                seed=seed,
                ordered=args.order == "input",
                ahead=ahead,
            )
        if as_parquet:
            table.write(Path(args.out), results)
        if args.json:
            print(json.dumps({"out": args.out, **summary.to_json()}))
        else:
            console.show_summary(args.out, summary)
        return 1 if summary.failed else 0

    def answering(
        self, args: argparse.Namespace, decoder: Decoder, defaults: tuple[Any, ...], how: Mapping[str, Any]
    ) -> tuple[Callable[[int], Answerer], int]:
        """What makes an answerer of the job's seed, and how many sequences it takes at a time.

        defaults  of rows: chain, options, n; see `Tasks`
        how       see `Answering`
        """
        from decodekit.gathering import AHEAD
        from decodekit.jobs.answering import Answering
        from decodekit.jobs.tasks import Tasks

        tasks = Tasks(self.plugins, *defaults)
        return lambda seed: Answering(decoder, tasks, seed, **how), AHEAD * args.max_rows


def add_files(parser: argparse.ArgumentParser, what: str) -> None:
    """Where rows come from."""
    parser.add_argument("input", metavar="IN", help=what)
    parser.add_argument("out", metavar="OUT", help="a new file, or that of the job that is to go on")
    parser.add_argument("--format", default="auto", choices=["auto", "jsonl", "csv", "parquet"], help="of IN")
    parser.add_argument(
        "--field", action="append", default=[], metavar="NAME=THEIRS", help="IN calls the field NAME so"
    )


def add_running(parser: argparse.ArgumentParser) -> None:
    """How a job runs."""
    add_machine(parser)
    parser.add_argument("--max-rows", type=int, default=16, metavar="N", help="sequences decoded together")
    parser.add_argument(
        "--deterministic", action="store_true", help="decode every sequence in calls of its own"
    )
    parser.add_argument("--group", type=int, default=256, metavar="N", help="records synced together at most")
    parser.add_argument("--max-errors", type=int, metavar="N", help="stop once more rows than that failed")
    parser.add_argument("--retry-errors", action="store_true", help="try rows again that failed")


def loaded(args: argparse.Namespace, plugins: Plugins) -> Decoder:
    """The decoder a job asks for."""
    from decodekit.loading import load

    whole("--group", args.group, "[1, inf)")
    if args.max_errors is not None:
        whole("--max-errors", args.max_errors, "[0, inf)")
    return load(
        args.model,
        device=args.device,
        threads=args.threads,
        plugins=plugins,
        max_rows=args.max_rows,
        deterministic=args.deterministic,
    )


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the command line says something about."""
    from decodekit.settings import Settings

    usual = Settings()
    return {n: value for n, value in options.items() if value != [] and value != getattr(usual, n)}


def check_defaults(decoder: Decoder, chain: Any, options: Mapping[str, Any], n: int | None = None) -> None:
    """What holds for every row is right before the first one is begun."""
    from decodekit.chain import parse
    from decodekit.settings import MAX_SAMPLES, Settings
    from decodekit.stopping import StoppingCriterion

    whole("n", 1 if n is None else n, f"[1, {MAX_SAMPLES}]")
    decoder.bundle.check_adapter(options.get("adapter"))
    decoder.processors(chain)
    parse(Settings.of(options).criteria, decoder.plugins.stopping_criteria, StoppingCriterion)


def run_job(
    args: argparse.Namespace,
    decoder: Decoder,
    asked: Mapping[str, Any],
    results: Path,
    answerer: Callable[[int], Answerer],
    *,
    seed: int | None,
    ordered: bool,
    ahead: int,
) -> Summary:
    """Run what is left of a job; its summary."""
    from decodekit import console
    from decodekit.jobs.job import Job
    from decodekit.progress_bars import JobBar

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    source = source_of(args, results)
    source.limit = getattr(args, "limit", None)
    job = Job(
        source=source,
        results=results,
        begun_with=begun_with(decoder, {**asked, "deterministic": args.deterministic, "field": args.field}),
        answerer=answerer,
        seed=seed,
        ordered=ordered,
        ahead=ahead,
        group=args.group,
        max_errors=args.max_errors,
        note=console.show_note,
    )
    with JobBar() as bar:
        return job.run(bar.begin, retry=args.retry_errors)


def source_of(args: argparse.Namespace, results: Path) -> Source:
    """The rows a job is about."""
    from decodekit.jobs.sources import open_source

    fields = {}
    for text in args.field:
        here, equals, there = text.partition("=")
        if not (here and equals and there):
            raise ParameterError(f"--field must be NAME=THEIRS, got {text!r}")
        fields[here] = there
    carry = getattr(args, "carry", ())
    return open_source(args.input, args.format, folder=results.parent, fields=fields, carry=carry)


def begun_with(decoder: Decoder, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What may not change while a job lasts, as plain data."""
    from decodekit.preparation import origin

    made = origin(decoder.bundle, decoder.model)
    plugins = {p.name: p.distribution for p in decoder.plugins.installed if p.state == "ok"}
    facts = {
        "bundle": {"name": made["bundle"], "sha256": made["bundle_sha256"]},
        "settings": asked,
        "software": {**made["made_by"], **plugins},
    }
    return dict(json.loads(json.dumps(facts)))
