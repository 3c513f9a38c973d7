"""`decodekit inspect MODEL`."""

from __future__ import annotations

import argparse
import json

from decodekit.hookspecs import Command


class Inspect(Command):
    """decodekit inspect MODEL"""

    help = "what a bundle is, after checking its files"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        parser.add_argument("--json", action="store_true", help="the manifest")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.bundle import open_bundle
        from decodekit.inspection import describe

        bundle = open_bundle(args.model)
        if args.json:
            print(json.dumps(dict(bundle.manifest), indent=1, ensure_ascii=False))
            return 0
        console.show_facts(f"{bundle.name} ({bundle.path})", describe(bundle))
        return 0
