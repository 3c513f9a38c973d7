"""What this distribution adds to the `decodekit` command. Imports nothing heavy until a verb runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from decodekit.hookspecs import Command, Register, hookimpl
from decodekit_export.architectures_command import Architectures
from decodekit_export.data_command import Data
from decodekit_export.engines import ENGINES
from decodekit_export.errors import ExportError, ParityError
from decodekit_export.finetune_command import Finetune
from decodekit_export.grid import BLOCK
from decodekit_export.source_arguments import add_source

if TYPE_CHECKING:
    from decodekit.bundle import Bundle
    from decodekit_export.checkpoint_source import Source
    from decodekit_export.stages import Stages


@hookimpl
def register_commands(register: Register) -> None:
    register("finetune", Finetune)
    register("export", Export)
    register("data", Data)
    register("architectures", Architectures)


class Export(Command):
    """decodekit export SOURCE --out BUNDLE"""

    help = "write a PyTorch checkpoint as an ONNX bundle, checked against the model"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_source(parser, "source")
        parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="a new or empty folder")
        parser.add_argument("--cache", choices=["in_place", "concatenating"], default="in_place")
        parser.add_argument(
            "--engine",
            choices=["decodekit", *ENGINES],
            default="decodekit",
            help="who draws the graph: this exporter, optimum's, or onnxruntime-genai's model builder",
        )
        parser.add_argument(
            "--compact", action="store_true", help="store weights in half the bytes where that loses nothing"
        )
        parser.add_argument(
            "--dtype",
            choices=["float32", "float16", "bfloat16"],
            default="float32",
            help="of weights, cache and products; logits are float32",
        )
        parser.add_argument(
            "--quantize",
            choices=["int4", "int8"],
            help="round weights to 4 or 8 bits, and report what it cost",
        )
        parser.add_argument(
            "--block",
            type=int,
            metavar="N",
            help=f"weights that share a scale, by default {BLOCK}; more are smaller",
        )
        parser.add_argument(
            "--asymmetric",
            action="store_true",
            help="give each block a zero point too: larger, and finer where blocks lean to one side",
        )
        parser.add_argument(
            "--keep",
            action="append",
            default=[],
            metavar="MODULE",
            help="stays in float32, such as 'lm_head' or '*.down_proj'",
        )
        parser.add_argument(
            "--adapter",
            action="append",
            default=[],
            metavar="[NAME=]FOLDER",
            help="a LoRA of peft's, kept beside the model for requests that name it; repeat for several",
        )
        parser.add_argument(
            "--merge", type=Path, metavar="FOLDER", help="a LoRA of peft's, merged into the weights"
        )
        parser.add_argument("--text", type=Path, metavar="F", help="that the report is read on")
        parser.add_argument("--name", help="of the bundle; by default that of the folder or repository")
        parser.add_argument(
            "--license-file", type=Path, metavar="F", help="of the weights; by default that of the checkpoint"
        )
        parser.add_argument(
            "--prompts", type=int, default=50, metavar="N", help="random prompts to compare greedily"
        )
        parser.add_argument("--allow-no-eos", action="store_true", help="accept a model without a stop token")
        parser.add_argument("--json", action="store_true", help="print the manifest")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit_export.checkpoint_source import find_source
        from decodekit_export.stages import Stages

        for option, given in (("--block", args.block is not None), ("--asymmetric", args.asymmetric)):
            if given and not args.quantize:
                raise ExportError(f"{option} says how weights are rounded; pass --quantize too")
        stages = Stages()
        source = find_source(args.source, revision=args.revision, offline=args.offline)
        stages.source(source)
        try:
            with stages.running():
                bundle = self._export(args, source, stages)
        except ParityError as error:
            stages.parity(error.parity.fields())
            raise
        stages.parity(bundle.manifest["parity"])
        stages.adapters(bundle.manifest["adapters"])
        if bundle.manifest["quality"]:
            stages.quality(bundle.manifest["quality"])
        stages.written(bundle)
        if args.json:
            print(
                json.dumps(
                    {"path": str(bundle.path), "sha256": bundle.sha256, **bundle.manifest}, ensure_ascii=False
                )
            )
        return 0

    def _export(self, args: argparse.Namespace, source: Source, stages: Stages) -> Bundle:
        from decodekit_export.bundle import export_bundle
        from decodekit_export.precision import Precision
        from decodekit_export.quantization import Quantization

        if args.engine != "decodekit":
            return self._with_engine(args, source, stages)
        return export_bundle(
            source,
            args.out,
            cache=args.cache,
            compact=args.compact,
            precision=Precision(args.dtype, () if args.quantize else args.keep),
            quantization=Quantization(
                args.quantize, BLOCK if args.block is None else args.block, args.keep, not args.asymmetric
            )
            if args.quantize
            else None,
            adapters=_named(args.adapter),
            merge=args.merge,
            text=args.text,
            name=args.name,
            license=_read(args.license_file),
            prompts=args.prompts,
            allow_no_eos=args.allow_no_eos,
            progress=stages.stage,
        )

    def _with_engine(self, args: argparse.Namespace, source: Source, stages: Stages) -> Bundle:
        from decodekit_export.engine_bundle import export_with_engine

        for option in ("cache", "compact", "dtype", "quantize", "keep", "adapter", "merge", "text"):
            if getattr(args, option) not in (None, False, [], "in_place", "float32"):
                raise ExportError(
                    f"--engine {args.engine} and --{option} exclude each other: it draws a float32 graph "
                    "with the cache it has; leave one out"
                )
        return export_with_engine(
            args.engine,
            source,
            args.out,
            name=args.name,
            license=_read(args.license_file),
            prompts=args.prompts,
            allow_no_eos=args.allow_no_eos,
            progress=stages.stage,
        )


def _named(adapters: Sequence[str]) -> dict[str, Path]:
    """Folders by name, which is the folder's where none is given."""
    named: dict[str, Path] = {}
    for text in adapters:
        before, sign, after = text.partition("=")
        name, path = (before, Path(after)) if sign else (Path(text).resolve().name, Path(text))
        if name in named:
            raise ExportError(f"--adapter: two are named {name!r}; write NAME=FOLDER")
        named[name] = path
    return named


def _read(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ExportError(f"--license-file {file}: cannot be read ({exc})") from exc
