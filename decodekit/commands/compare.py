"""`decodekit compare MODEL PROMPT CHAIN...`."""

from __future__ import annotations

import argparse
import json

from decodekit.hookspecs import Command
from decodekit.plugins import Plugins


class Compare(Command):
    """decodekit compare MODEL PROMPT CHAIN..."""

    help = "decode one prompt with several chains, and show what each keeps at the first tokens"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        parser.add_argument("prompt")
        parser.add_argument("chain", nargs="+", help="such as 'temperature=0.8, top_p=0.9'")
        parser.add_argument(
            "--tokens", type=int, default=2, metavar="N", help="how many first tokens to show"
        )
        parser.add_argument("--top", type=int, default=8, metavar="K", help="how many candidates of each")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--max-new-tokens", type=int, metavar="N")
        parser.add_argument("--json", action="store_true")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit.comparison import compare
        from decodekit.comparison_table import show
        from decodekit.loading import load

        decoder = load(args.model, plugins=self.plugins)
        comparison = compare(
            decoder,
            args.prompt,
            args.chain,
            places=args.tokens,
            top=args.top,
            seed=args.seed,
            max_new_tokens=args.max_new_tokens,
        )
        if args.json:
            print(json.dumps(comparison.to_json(), ensure_ascii=False))
        else:
            show(args.prompt, comparison)
        return 0
