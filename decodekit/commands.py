"""The verbs of the `decodekit` command: declare options, call the library, print."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from typing import Any

from decodekit.hookspecs import Command
from decodekit.plugins import Plugins, Registry


class Generate(Command):
    """decodekit generate MODEL PROMPT"""

    help = "decode a prompt"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        parser.add_argument("prompt", nargs="+", help="one or more prompts; - reads one from standard input")
        parser.add_argument(
            "-p",
            "--process",
            action="append",
            metavar="NAME[.PARAMETER]=VALUE",
            help="a strategy; repeat for a chain",
        )
        parser.add_argument(
            "-c",
            "--criterion",
            action="append",
            metavar="NAME[.PARAMETER]=VALUE",
            help="a stopping criterion",
        )
        parser.add_argument("--max-new-tokens", type=int, metavar="N")
        parser.add_argument("--max-time", type=float, metavar="SECONDS")
        parser.add_argument(
            "--stop", action="append", default=[], metavar="TEXT", help="end before this text"
        )
        parser.add_argument("--stop-token-id", action="append", default=[], type=int, metavar="ID")
        parser.add_argument("--seed", type=int)
        parser.add_argument("-n", type=int, help="answers per prompt")
        parser.add_argument("--logprobs", type=int, metavar="K", help="show each token's K best alternatives")
        parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
        parser.add_argument("--json", action="store_true", help="one JSON object a line and answer")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.decoder import load

        decoder = load(args.model, device=args.device, plugins=self.plugins)
        prompts = [sys.stdin.read().rstrip("\n") if p == "-" else p for p in args.prompt]
        options: dict[str, Any] = {
            "max_new_tokens": args.max_new_tokens,
            "max_time": args.max_time,
            "stop": args.stop,
            "stop_token_ids": args.stop_token_id,
            "criteria": args.criterion,
            "logprobs": args.logprobs,
        }
        for prompt in prompts:
            if args.json or args.n is not None:
                for c in decoder.generate(prompt, args.process, seed=args.seed, n=args.n or 1, **options):
                    print(json.dumps(c.to_json(), ensure_ascii=False) if args.json else c.text, flush=True)
                continue
            pieces = decoder.stream(prompt, args.process, seed=args.seed, **options)
            for piece in pieces:
                print(piece, end="", flush=True)
            print()
            assert pieces.completion is not None
            if args.logprobs is not None:
                console.show_logprobs(pieces.completion, decoder.spell)
            console.show_completion(pieces.completion)
        return 0


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
        from decodekit import console
        from decodekit.comparison import compare
        from decodekit.decoder import load

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
            console.show_comparison(args.prompt, comparison)
        return 0


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


class ListPlugins(Command):
    """decodekit plugins list"""

    help = "what is installed, and from where"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", choices=["list"])
        parser.add_argument("--json", action="store_true")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console

        registries = (self.plugins.logits_processors, self.plugins.stopping_criteria, self.plugins.commands)
        offers = {registry.kind: _offers(registry) for registry in registries}
        packages = [
            {"plugin": p.name, "distribution": p.distribution, "state": p.state}
            for p in self.plugins.installed
        ]
        if args.json:
            print(json.dumps({"plugins": packages, "offers": offers}, indent=1))
            return 0
        console.show_table("installed plugins", packages)
        for kind, rows in offers.items():
            console.show_table(kind, rows)
        return 0


def _offers(registry: Registry) -> list[dict[str, str]]:
    return [
        {
            "name": name,
            "parameters": registry.parameters(name),
            "from": registry.plugin(name).distribution,
            "what it does": registry.help(name),
        }
        for name in registry.entries
    ]


class Doctor(Command):
    """decodekit doctor"""

    help = "what this machine offers, and what is in the way"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.doctor import examine

        report = examine(self.plugins)
        if args.json:
            print(json.dumps(report.to_json(), indent=1))
        else:
            console.show_facts(f"decodekit on Python {platform.python_version()}", report.facts)
            for problem in report.problems:
                console.show_note(f"problem: {problem}")
            if not report.problems:
                console.show_note("no problem found")
        return 3 if report.problems else 0
