"""The verb `finetune`. Imports nothing heavy until it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import fields
from pathlib import Path

from decodekit.hookspecs import Command
from decodekit_export.data_options import add_data_options
from decodekit_export.settings import ORDERS, Settings
from decodekit_export.source_arguments import add_source


class Finetune(Command):
    """decodekit finetune BASE DATA --out DIR"""

    help = "train a checkpoint on prompt and completion pairs, with the loss on the completions"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        default = {field.name: field.default for field in fields(Settings)}

        def number(option: str, kind: type, metavar: str, help: str) -> None:
            value = default[option[2:].replace("-", "_")]
            text = help if value is None else f"{help} (default {value})"
            parser.add_argument(option, type=kind, default=value, metavar=metavar, help=text)

        add_source(parser, "base")
        parser.add_argument("data", type=Path, help="JSON lines, CSV, Parquet, or a saved dataset")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
        add_data_options(parser)
        number("--epochs", float, "N", "passes over the data")
        number("--max-steps", int, "N", "end after N steps")
        number("--max-seconds", float, "S", "end after S seconds of steps")
        number("--batch-size", int, "N", "rows in a batch")
        number("--accumulate", int, "N", "batches in a step")
        number("--learning-rate", float, "R", "of AdamW, at its highest")
        number("--warmup", float, "SHARE", "of the run, in which the learning rate rises")
        number("--weight-decay", float, "R", "of AdamW")
        parser.add_argument(
            "--order",
            choices=ORDERS,
            default=default["order"],
            help="whether rows of like length share a batch",
        )
        number("--seed", int, "N", "of the order of rows")
        parser.add_argument("--json", action="store_true", help="print the record of the run")

    def run(self, args: argparse.Namespace) -> int:
        settings = Settings(**{field.name: getattr(args, field.name) for field in fields(Settings)})
        # Threads that spin while they wait take the cores from whatever else the machine does.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")

        from decodekit_export.checkpoint_source import find_source
        from decodekit_export.faults import DataError
        from decodekit_export.finetune import finetune
        from decodekit_export.offline import offline
        from decodekit_export.progress import Display

        display = Display()
        base = find_source(args.base, revision=args.revision, offline=args.offline)
        if base.provenance:
            display.note(f"{base}, in {base.path}")
        try:
            with offline(), display.noting_warnings():
                report = finetune(base.path, args.data, args.out, settings, display=display)
        except DataError as error:
            if len(error.problems) > 1:
                print("\n".join(error.problems), file=sys.stderr)
            raise
        display.result(args.out, report.to_json())
        if args.json:
            print(json.dumps(report.to_json(), ensure_ascii=False))
        return 0
