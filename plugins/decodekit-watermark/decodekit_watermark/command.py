"""`decodekit watermark detect MODEL FILE`."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodekit.commands.asking import read_text
from decodekit.errors import InputError, ParameterError
from decodekit.hookspecs import Command
from decodekit_watermark.detection import detect
from decodekit_watermark.gumbel import GumbelWatermark
from decodekit_watermark.kgw import Kgw

if TYPE_CHECKING:
    from decodekit.tokenizer import Tokenizer

MARKS: dict[str, type[Kgw] | type[GumbelWatermark]] = {"kgw": Kgw, "gumbel": GumbelWatermark}


class Watermark(Command):
    """decodekit watermark detect MODEL FILE"""

    help = "look for a watermark in a text"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("action", choices=["detect"])
        parser.add_argument(
            "model", help="a bundle's folder, the name of an embedded model, or a tokenizer.json"
        )
        parser.add_argument("file", help="UTF-8 text; - reads standard input")
        mark = parser.add_mutually_exclusive_group(required=True)
        mark.add_argument("--kgw", metavar="OPTIONS", help="as in the chain: key=1,gamma=0.25,h=1")
        mark.add_argument("--gumbel", metavar="OPTIONS", help="of gumbel_watermark: key=1,h=4")
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console

        mark = _mark(args)
        tokenizer = _tokenizer(args.model)
        ids = tokenizer.encode_plain(read_text(args.file))
        found = detect(ids, mark)
        if not found.tokens:
            raise InputError(
                f"{args.file}: {len(ids)} tokens, none with {mark.h} before it; take a longer one"
            )
        if args.json:
            print(json.dumps({"file": args.file, **found.to_json()}))
            return 0
        console.show_facts(
            args.file,
            {
                "tokens": f"{found.tokens:,} of {len(ids):,} count",
                "score": f"{found.score:,.1f}, {found.expected:,.1f} expected without this mark",
                "z": f"{found.z:.2f}",
                "p-value": f"{found.p_value:.3g}, the chance that a text without this mark scores so high",
            },
        )
        return 0


def _mark(args: argparse.Namespace) -> Kgw | GumbelWatermark:
    name = "gumbel" if args.kgw is None else "kgw"
    known = [field.name for field in fields(MARKS[name])]
    options: dict[str, Any] = {}
    for part in getattr(args, name).split(","):
        option, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ParameterError(f"--{name}: {option!r} has no value; write key=NUMBER,...")
        if option not in known:
            raise ParameterError(f"--{name}: there is no option {option!r}; it takes {', '.join(known)}")
        if option in options:
            raise ParameterError(f"--{name}: {option} is given twice; give it once")
        try:
            options[option] = json.loads(value)
        except ValueError:
            options[option] = value
    if "key" not in options:
        raise ParameterError(f"--{name}: key is missing; without it no mark can be found")
    return MARKS[name](**options)


def _tokenizer(model: str) -> Tokenizer:
    from decodekit.bundle import open_bundle
    from decodekit.tokenizer import Tokenizer

    path = Path(model)
    return Tokenizer(path if path.is_file() else open_bundle(model).tokenizer)
