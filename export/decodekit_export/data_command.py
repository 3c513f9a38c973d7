"""The verb `data`. Imports nothing heavy until it runs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from decodekit.hookspecs import Command
from decodekit_export.data_options import NAMES, add_data_options
from decodekit_export.settings import Settings


class Data(Command):
    """decodekit data check FILE --model BASE"""

    help = "what a run would train on: counts, lengths, faults, one row with its mask"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
        check = actions.add_parser("check", help=self.help, description=self.help)
        check.add_argument("--debug", action="store_true", help="show where an error came from")
        check.add_argument("data", type=Path, help="JSON lines, CSV, Parquet, or a saved dataset")
        check.add_argument("--model", type=Path, required=True, metavar="BASE", help="what would be trained")
        add_data_options(check, window="left_prompt")
        check.add_argument("--seed", type=int, default=0, metavar="N", help="of what --valid 5%% holds out")
        check.add_argument("--line", type=int, metavar="N", help="of the row to show, instead of the first")
        check.add_argument("--json", action="store_true", help="print all of it as JSON")

    def run(self, args: argparse.Namespace) -> int:
        settings = Settings(**{name: getattr(args, name) for name in (*NAMES, "seed")})

        from decodekit_export.data_check import check
        from decodekit_export.data_screen import DataScreen
        from decodekit_export.faults import DataError
        from decodekit_export.offline import offline
        from decodekit_export.pretrained import open_pretrained

        try:
            with offline():
                start = open_pretrained(args.model)
                found, row = check(args.data, start, settings, args.line)
        except DataError as error:
            if args.json:
                print(json.dumps({"problems": error.problems}, ensure_ascii=False))
            elif len(error.problems) > 1:
                print("\n".join(error.problems), file=sys.stderr)
            raise
        if args.json:
            print(json.dumps(found.to_json(), ensure_ascii=False))
        else:
            DataScreen().check(found, row, start.tokenizer)
        return 0
