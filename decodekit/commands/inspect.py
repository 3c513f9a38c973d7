"""`decodekit inspect MODEL`."""

from __future__ import annotations

import argparse
import json

from decodekit.hookspecs import Command


class Inspect(Command):
    """decodekit inspect MODEL"""

    help = "what a bundle is and what decoding it takes, after checking its files"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        parser.add_argument(
            "--batch", type=int, default=1, metavar="N", help="rows that memory is computed for"
        )
        parser.add_argument(
            "--length", type=int, metavar="N", help="tokens in each of them; by default a full context"
        )
        parser.add_argument(
            "--bandwidth", type=float, metavar="GB/s", help="of memory, for the estimate of speed; default 25"
        )
        parser.add_argument(
            "--json", action="store_true", help="the same, with the same keys for every bundle"
        )

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.bundle import open_bundle
        from decodekit.footprint import BANDWIDTH
        from decodekit.inspection import describe, examine

        bundle = open_bundle(args.model)
        bandwidth = BANDWIDTH if args.bandwidth is None else args.bandwidth
        known = examine(bundle, batch=args.batch, length=args.length, bandwidth=bandwidth)
        if args.json:
            print(json.dumps(known, indent=1, ensure_ascii=False))
        else:
            console.show_facts(f"{bundle.name} ({bundle.path})", describe(known))
        return 0
