"""`decodekit verify MODEL`."""

from __future__ import annotations

import argparse
import json

from decodekit.commands.asking import add_machine
from decodekit.hookspecs import Command


class Verify(Command):
    """decodekit verify MODEL"""

    help = "check a bundle on this machine: files, hashes, graph, and its stored answer"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        add_machine(parser)
        parser.add_argument("--json", action="store_true", help="path, passed, and findings")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.bundle_check import check_bundle

        check = check_bundle(args.model, device=args.device, threads=args.threads)
        if args.json:
            print(json.dumps(check.to_json(), indent=1, ensure_ascii=False))
        else:
            console.show_facts(check.path, {f.what: f"{f.state}: {f.detail}" for f in check.findings})
        return 0 if check.passed else 2
