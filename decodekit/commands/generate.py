"""`decodekit generate MODEL PROMPT`."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from decodekit.hookspecs import Command
from decodekit.plugins import Plugins
from decodekit.settings import SPECULATE


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
        parser.add_argument("--min-new-tokens", type=int, default=0, metavar="N", help="no end before so many")
        parser.add_argument("--ignore-eos", action="store_true", help="go on at the model's end tokens")
        parser.add_argument("--max-time", type=float, metavar="SECONDS")
        parser.add_argument(
            "--stop", action="append", default=[], metavar="TEXT", help="end before this text"
        )
        parser.add_argument("--stop-token-id", action="append", default=[], type=int, metavar="ID")
        parser.add_argument("--seed", type=int)
        parser.add_argument("-n", type=int, help="answers per prompt")
        parser.add_argument("--logprobs", type=int, metavar="K", help="show each token's K best alternatives")
        parser.add_argument("--speculate", default="off", choices=SPECULATE, help="guess tokens and check them")
        parser.add_argument("--draft", metavar="MODEL", help="a smaller bundle to guess with")
        parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
        parser.add_argument("--threads", type=int, metavar="N", help="for one operator on the CPU")
        parser.add_argument("--json", action="store_true", help="one JSON object a line and answer")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.decoder import load

        decoder = load(
            args.model, device=args.device, threads=args.threads, draft=args.draft, plugins=self.plugins
        )
        prompts = [sys.stdin.read().rstrip("\n") if p == "-" else p for p in args.prompt]
        options: dict[str, Any] = {
            "max_new_tokens": args.max_new_tokens,
            "min_new_tokens": args.min_new_tokens,
            "ignore_eos": args.ignore_eos,
            "max_time": args.max_time,
            "stop": args.stop,
            "stop_token_ids": args.stop_token_id,
            "criteria": args.criterion,
            "logprobs": args.logprobs,
            "speculate": args.speculate,
        }
        if args.json or args.n is not None:
            for c in decoder.generate(prompts, args.process, seed=args.seed, n=args.n or 1, **options):
                print(json.dumps(c.to_json(), ensure_ascii=False) if args.json else c.text, flush=True)
            return 0
        for prompt in prompts:
            pieces = decoder.stream(prompt, args.process, seed=args.seed, **options)
            for piece in pieces:
                print(piece, end="", flush=True)
            print()
            assert pieces.completion is not None
            if args.logprobs is not None:
                console.show_logprobs(pieces.completion, decoder.spell)
            console.show_completion(pieces.completion)
        return 0
