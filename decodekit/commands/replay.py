"""`decodekit replay FILE`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from decodekit import record
from decodekit.commands.asking import add_machine
from decodekit.errors import BundleError, RecordError
from decodekit.hookspecs import Command
from decodekit.plugins import Plugins


class Replay(Command):
    """decodekit replay FILE"""

    help = "decode recorded answers again, and say whether they are the same"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("file", help="what `decodekit generate --record` wrote")
        parser.add_argument(
            "--verify", action="store_true", help="check the tokens in one pass instead of decoding them"
        )
        parser.add_argument(
            "--bundle", metavar="MODEL", help="the bundle's folder; default: an embedded model of that name"
        )
        add_machine(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object a line and record")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.loading import load
        from decodekit.replay import replay
        from decodekit.verify import verify

        records = list(record.read(Path(args.file)))
        if not records:
            raise RecordError(f"{args.file}: no record in it; `decodekit generate --record` writes some")
        decoders, held = {}, True
        for place, one in records:
            model = args.bundle or one.bundle
            try:
                if model not in decoders:
                    decoders[model] = load(
                        model, device=args.device, threads=args.threads, plugins=self.plugins
                    )
                verdict = (verify if args.verify else replay)(decoders[model], one)
            except RecordError as exc:
                raise RecordError(f"{place}: {exc}") from exc
            except BundleError as exc:
                if args.bundle:
                    raise
                raise BundleError(f"{place}: {exc}; name the folder with --bundle") from exc
            held = held and verdict.holds
            if args.json:
                print(json.dumps({"place": place, **verdict.to_json()}, ensure_ascii=False), flush=True)
            else:
                console.show_verdict(place, verdict)
        return 0 if held else 1
