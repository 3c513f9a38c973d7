"""`decodekit trace MODEL PROMPT`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from decodekit.commands.asking import add_chain, add_machine, read_prompt, settings
from decodekit.hookspecs import Command
from decodekit.plugins import Plugins

if TYPE_CHECKING:
    from decodekit.trace_step import StepTrace


class Trace(Command):
    """decodekit trace MODEL PROMPT"""

    help = "decode a prompt, and show what every strategy did at every token"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        parser.add_argument("prompt", help="- reads it from standard input")
        add_chain(parser)
        parser.add_argument("--sample", type=int, default=0, help="which answer of that seed, from 0")
        parser.add_argument(
            "--top", type=int, default=20, metavar="K", help="candidates to list at each place"
        )
        add_machine(parser)
        parser.add_argument("--out", metavar="FILE", help="write a page (.html) or data (.json)")
        parser.add_argument("--json", action="store_true", help="the data on standard output")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.loading import load
        from decodekit.trace import saving_to

        if args.out is not None:
            saving_to(args.out)
        decoder = load(args.model, device=args.device, threads=args.threads, plugins=self.plugins)
        trace = decoder.trace(
            read_prompt(args.prompt), args.process, top=args.top, sample=args.sample, **settings(args)
        )
        if args.out is not None:
            size = trace.save(args.out)
            each = size / len(trace.steps) / 1000
            console.show_note(f"{args.out}: {len(trace.steps)} tokens, {size:,} bytes, {each:.1f} kB a token")
        if args.json:
            print(json.dumps(trace.to_json(), ensure_ascii=False))
        elif args.out is None:
            print(trace.text)
            chain = ", ".join(entry.name for entry in trace.chain)
            console.show_table(chain, [_row(n, step, trace.tokens) for n, step in enumerate(trace.steps, 1)])
            console.show_note(f"{trace.finish_reason} ({trace.stopped_by}), seed {trace.seed}")
        return 0


def _row(number: int, step: StepTrace, tokens: Mapping[int, str]) -> dict[str, str]:
    """A line of the table: how likely the token was, how close the draw, and how the chain narrowed it."""
    from decodekit.console import BAR, bar

    return {
        "": str(number),
        "token": repr(tokens[step.id]),
        "model": f"{step.probability:.1%}",
        " ": bar(step.probability, BAR).ljust(BAR),
        "chain": f"{step.final_probability:.1%}",
        "entropy": f"{step.entropy:.2f} → {step.stages[-1].entropy:.2f}",
        "margin": "" if step.draw.margin is None else f"{step.draw.margin:.2f}",
        "left": " → ".join(f"{stage.alive:,}" for stage in step.stages),
    }
