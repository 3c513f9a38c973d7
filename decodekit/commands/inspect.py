"""`decodekit inspect MODEL`."""

from __future__ import annotations

import argparse
import json

from decodekit.hookspecs import Command
from decodekit.plugins import Plugins


class Inspect(Command):
    """decodekit inspect MODEL"""

    help = "what a bundle is and what decoding it takes, after checking its files"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

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
            "--chain", metavar="TEXT", help="tell where each strategy runs, as 'top_k=50, top_p=0.9'"
        )
        parser.add_argument(
            "--placement", action="store_true", help="load it, and list what does not run on its device"
        )
        parser.add_argument("--device", default="auto", help="for both: cpu, cuda, cuda:1 or auto")
        parser.add_argument(
            "--json", action="store_true", help="the same, with the same keys for every bundle"
        )

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.bundle import open_bundle
        from decodekit.footprint import BANDWIDTH
        from decodekit.inspection import chain_stages, describe, examine, placement

        bundle = open_bundle(args.model)
        bandwidth = BANDWIDTH if args.bandwidth is None else args.bandwidth
        known = examine(bundle, batch=args.batch, length=args.length, bandwidth=bandwidth)
        facts = describe(known)
        if args.chain is not None:
            stages = chain_stages(bundle, args.chain, self.plugins, args.device)
            facts["chain"] = "\n".join(f"{stage.name}  {stage}" for stage in stages)
            known["chain"] = [{"name": s.name, "where": s.where, "why": s.why} for s in stages]
        if args.placement:
            known["placement"] = placement(bundle, args.device)
            facts["runs on"] = "\n".join(f"{who}  {what}" for who, what in known["placement"].items())
        if args.json:
            print(json.dumps(known, indent=1, ensure_ascii=False))
        else:
            console.show_facts(f"{bundle.name} ({bundle.path})", facts)
        return 0
