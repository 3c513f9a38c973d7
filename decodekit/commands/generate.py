"""`decodekit generate MODEL PROMPT`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodekit import presets, record
from decodekit.commands.asking import add_chain, add_machine, read_prompt, settings
from decodekit.errors import ParameterError
from decodekit.hookspecs import Command
from decodekit.plugins import Plugins
from decodekit.presets.dialects import DIALECTS
from decodekit.settings import SPECULATE

if TYPE_CHECKING:
    from decodekit.beam import Beam
    from decodekit.completion import Completion
    from decodekit.decoder import Decoder


class Generate(Command):
    """decodekit generate MODEL PROMPT"""

    help = "decode a prompt"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        parser.add_argument("prompt", nargs="+", help="one or more prompts; - reads one from standard input")
        add_chain(parser)
        parser.add_argument(
            "--preset", metavar="FILE", help="sampler settings of another engine, JSON; -p adds to them"
        )
        parser.add_argument(
            "--preset-kind", default="auto", choices=["auto", *DIALECTS], help="of which engine"
        )
        parser.add_argument("-n", type=int, help="answers per prompt")
        parser.add_argument("--logprobs", type=int, metavar="K", help="show each token's K best alternatives")
        parser.add_argument(
            "--logprobs-at", metavar="STAGE", help="raw (default), final, or a strategy of the chain"
        )
        parser.add_argument(
            "--speculate", default="off", choices=SPECULATE, help="guess tokens and check them"
        )
        parser.add_argument("--draft", metavar="MODEL", help="a smaller bundle to guess with")
        parser.add_argument("--beams", type=int, metavar="N", help="beam search with so many; -n of them")
        parser.add_argument(
            "--length-penalty", type=float, metavar="X", help="of beam search, default 1; 0: none"
        )
        add_machine(parser)
        parser.add_argument(
            "--sampling",
            default="auto",
            choices=["auto", "host", "graph"],
            help="where chains run; tokens are the same",
        )
        parser.add_argument("--json", action="store_true", help="one JSON object a line and answer")
        parser.add_argument(
            "--record", metavar="FILE", help="append a line for each answer, for `decodekit replay`"
        )

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.loading import load

        decoder = load(
            args.model,
            device=args.device,
            threads=args.threads,
            sampling=args.sampling,
            draft=args.draft,
            plugins=self.plugins,
        )
        prompts = [read_prompt(prompt) for prompt in args.prompt]
        if args.beams is not None or args.length_penalty is not None:
            for beam in _beams(decoder, prompts, args):
                print(json.dumps(beam.to_json(), ensure_ascii=False) if args.json else beam.text, flush=True)
            return 0
        chain, options = args.process, settings(args)
        if args.preset is not None:
            chain, options = self._with_preset(args, options)
        options |= {
            "logprobs": args.logprobs,
            "logprobs_at": args.logprobs_at or "raw",
            "speculate": args.speculate,
        }
        if args.json or args.n is not None:
            for c in decoder.generate(prompts, chain, n=1 if args.n is None else args.n, **options):
                print(json.dumps(c.to_json(), ensure_ascii=False) if args.json else c.text, flush=True)
                _keep(c, args)
            return 0
        for prompt in prompts:
            pieces = decoder.stream(prompt, chain, **options)
            for piece in pieces:
                print(piece, end="", flush=True)
            print()
            assert pieces.completion is not None
            if args.logprobs is not None:
                console.show_logprobs(pieces.completion, decoder.tokenizer.spell)
            console.show_completion(pieces.completion)
            _keep(pieces.completion, args)
        return 0

    def _with_preset(
        self, args: argparse.Namespace, given: dict[str, Any]
    ) -> tuple[list[str], dict[str, Any]]:
        """The chain and options of another engine's settings, and what is given beside them."""
        from decodekit import console

        preset = presets.read(Path(args.preset), args.preset_kind, plugins=self.plugins)
        for what, notes in (("assumed", preset.assumed), ("differs", preset.differs)):
            for name, note in notes.items():
                console.show_note(f"{args.preset}: {name} {what}: {note}")
        if "n" in preset.options:
            raise ParameterError(f"{args.preset}: n is not for a preset; give -n")
        options = {**given, **preset.options}
        options |= {name: value for name, value in given.items() if value not in (None, [], 0, False)}
        return [*preset.chain, *(args.process or ())], options


def _keep(completion: Completion, args: argparse.Namespace) -> None:
    if args.record is not None:
        record.append(Path(args.record), completion.record())


def _beams(decoder: Decoder, prompts: Iterable[str], args: argparse.Namespace) -> Iterator[Beam]:
    """The answers of beam search, prompt by prompt."""
    if args.beams is None:
        raise ParameterError("--length-penalty is of beam search; add --beams")
    for word in (
        "criterion",
        "max_time",
        "stop",
        "seed",
        "logprobs",
        "logprobs_at",
        "draft",
        "record",
        "preset",
    ):
        if getattr(args, word) not in (None, []):
            raise ParameterError(f"--beams and --{word.replace('_', '-')} exclude each other; leave one out")
    if args.speculate != "off":
        raise ParameterError("--beams and --speculate exclude each other; leave one out")
    for prompt in prompts:
        yield from decoder.beam(
            prompt,
            args.process,
            beams=args.beams,
            n=1 if args.n is None else args.n,
            length_penalty=1.0 if args.length_penalty is None else args.length_penalty,
            max_new_tokens=args.max_new_tokens,
            min_new_tokens=args.min_new_tokens,
            stop_token_ids=args.stop_token_id,
            ignore_eos=args.ignore_eos,
            adapter=args.adapter,
        )
