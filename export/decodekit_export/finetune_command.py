"""The verb `finetune`. Imports nothing heavy until it runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodekit.errors import ParameterError
from decodekit.hookspecs import Command
from decodekit_export.data_options import add_data_options
from decodekit_export.settings import (
    CHOICES,
    KINDS,
    ORDERS,
    PRECISIONS,
    SCHEDULES,
    Adapter,
    Saving,
    Settings,
    Watching,
)
from decodekit_export.source_arguments import add_source

if TYPE_CHECKING:
    from decodekit_export.data import Row
    from decodekit_export.ending import Ending
    from decodekit_export.progress import Display

FULL = "full"
TOO_FEW_STOP = 1  # exit status, where it is asked for


class Finetune(Command):
    """decodekit finetune BASE DATA --out DIR"""

    help = "train a checkpoint on prompt and completion pairs, with the loss on the completions"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_source(parser, "base")
        parser.add_argument("data", type=Path, help="JSON lines, CSV, Parquet, or a saved dataset")
        parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new or empty folder")
        add_data_options(parser)
        _add_layout(parser.add_argument_group("batches"))
        _add_training(parser.add_argument_group("training"))
        _add_adapter(parser.add_argument_group("adapter"))
        _add_saving(parser.add_argument_group("checkpoints"))
        _add_watching(parser.add_argument_group("what it shows"))

    def run(self, args: argparse.Namespace) -> int:
        adapter = None if args.method == FULL else Adapter(kind=args.method, **_given(args, Adapter, "kind"))
        settings = Settings(adapter=adapter, **_given(args, Settings, "adapter"))
        saving = Saving(**_given(args, Saving))
        watching = Watching(**_given(args, Watching))
        if args.export and not (saving.merge or adapter is None):
            raise ParameterError("finetune: --export needs whole weights; leave out --no-merge")
        # Threads that spin while they wait take the cores from whatever else the machine does.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")

        from decodekit_export.checkpoint_source import find_source
        from decodekit_export.checks import check_target
        from decodekit_export.faults import DataError
        from decodekit_export.finetune import prepare, train
        from decodekit_export.offline import offline
        from decodekit_export.progress import Display
        from decodekit_export.training_arguments import rank

        display = Display(quiet=rank() > 0)
        base = find_source(args.base, revision=args.revision, offline=args.offline)
        if base.provenance:
            display.note(f"{base}, in {base.path}")
        try:
            with offline(), display.noting_warnings():
                check_target(args.out)
                prepared = prepare(base.path, args.data, settings, display)
                report = train(prepared, args.out, settings, saving, watching, display)
        except DataError as error:
            if len(error.problems) > 1:
                print("\n".join(error.problems), file=sys.stderr)
            raise
        if report is None:  # the first process tells
            return 0
        display.result(args.out, report.to_json())
        display.ending(report.ending, watching.stopping)
        if args.export:
            ending = _export(args, prepared.asked, watching, display)
            report = replace(report, bundle_ending=ending)
            report.save(args.out)
        if args.json:
            print(json.dumps(report.to_json(), ensure_ascii=False))
        worst = min(e.share for e in (report.ending, report.bundle_ending) if e)
        return TOO_FEW_STOP if args.require_stopping and worst < watching.stopping else 0


def _export(args: argparse.Namespace, rows: Sequence[Row], watching: Watching, display: Display) -> Ending:
    """Write the bundle of the result, and see whether its answers stop."""
    from decodekit_export.bundle import export_bundle
    from decodekit_export.bundle_ending import bundle_ending
    from decodekit_export.stages import Stages

    stages = Stages()
    with stages.running():
        bundle = export_bundle(args.out, args.export, progress=stages.stage)
    stages.parity(bundle.manifest["parity"])
    stages.written(bundle)
    ending = bundle_ending(bundle.path, rows, watching.endings)
    display.ending(ending, watching.stopping, of="greedy answers of the bundle")
    return ending


Group = Any  # argparse keeps the name of its class to itself


def _add_layout(group: Group) -> None:
    add = _adder(group, Settings)
    add("--pack", "pack", int, "N", "put several rows, which do not see each other, into windows of N tokens")
    _choice(group, "--order", ORDERS, Settings, "whether rows of like length share a batch")


def _add_training(group: Group) -> None:
    add = _adder(group, Settings)
    add("--epochs", "epochs", float, "N", "passes over the data")
    add("--max-steps", "max_steps", int, "N", "end after N steps")
    add("--max-seconds", "max_seconds", float, "S", "end after S seconds of steps")
    add("--batch-size", "batch_size", int, "N", "rows in a batch of one process")
    add("--accumulate", "accumulate", int, "N", "batches in a step")
    add("--learning-rate", "learning_rate", float, "R", "of AdamW, at its highest")
    add("--warmup", "warmup", float, "SHARE", "of the run, in which the learning rate rises")
    _choice(group, "--schedule", SCHEDULES, Settings, "how the learning rate falls after that")
    add("--weight-decay", "weight_decay", float, "R", "of AdamW")
    add("--clip", "clip", float, "R", "the most the norm of a gradient may be")
    _choice(group, "--precision", PRECISIONS, Settings, "of products; weights stay float32")
    group.add_argument("--recompute", action="store_true", help="save memory by computing activations twice")
    group.add_argument(
        "--shard", action="store_true", help="processes of torchrun hold a part of the weights each"
    )
    add("--evaluate-every", "evaluate_every", int, "N", "steps; by default a tenth of the run")
    add("--patience", "patience", int, "N", "end after N evaluations without a lower loss")
    _choice(group, "--choose", CHOICES, Settings, "whose weights are kept, where there is a validation file")
    add("--seed", "seed", int, "N", "of the order of rows and of dropout")


def _add_adapter(group: Group) -> None:
    add = _adder(group, Adapter)
    group.add_argument(
        "--method", choices=(FULL, *KINDS), default=FULL, help="train all weights (default), or an adapter"
    )
    add("--rank", "rank", int, "N", "of the adapter")
    add("--alpha", "alpha", int, "N", "the adapter is scaled by alpha / rank")
    add("--dropout", "dropout", float, "SHARE", "of the adapter's inputs")
    group.add_argument(
        "--targets",
        type=lambda names: tuple(names.split(",")),
        default=(),
        metavar="A,B",
        help="modules, such as q_proj,v_proj; by default every linear one but the last",
    )
    group.add_argument(
        "--merge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the base with the adapter in it, and the adapter in adapter/; else the adapter only",
    )


def _add_saving(group: Group) -> None:
    add = _adder(group, Saving)
    add("--save-every", "every", int, "N", "steps between two checkpoints")
    add("--keep", "keep", int, "N", "newest checkpoints kept while it trains, besides the best")
    group.add_argument("--resume", action="store_true", help="go on with the run that was interrupted")
    group.add_argument(
        "--force-resume", action="store_true", dest="force", help="even with other settings or data"
    )


def _add_watching(group: Group) -> None:
    add = _adder(group, Watching)
    add("--samples", "samples", int, "N", "prompts to answer at each evaluation")
    add("--sample-chain", "chain", str, "CHAIN", "how, such as 'temperature=0.8, top_p=0.9'")
    add("--sample-tokens", "sample_tokens", int, "N", "tokens of such an answer, at most")
    add("--endings", "endings", int, "N", "greedy answers at the end, to see whether they stop")
    add("--stopping", "stopping", float, "SHARE", "of them that should stop")
    group.add_argument("--require-stopping", action="store_true", help="else end with status 1")
    add("--tensorboard", "tensorboard", Path, "DIR", "figures for TensorBoard")
    group.add_argument("--export", type=Path, metavar="BUNDLE", help="go on to a bundle, checked and asked")
    group.add_argument("--json", action="store_true", help="print the record of the run")


def _adder(group: Group, kind: type) -> Any:
    """Adds an option for a field of the dataclass `kind`, with its default."""

    def add(option: str, field: str, type: Any, metavar: str, help: str) -> None:
        value = _defaults(kind)[field]
        text = help if value is None else f"{help} (default {value})"
        group.add_argument(option, dest=field, type=type, default=value, metavar=metavar, help=text)

    return add


def _choice(group: Group, option: str, choices: tuple[str, ...], kind: type, help: str) -> None:
    value = _defaults(kind)[option[2:]]
    group.add_argument(option, choices=choices, default=value, help=f"{help} (default {value})")


def _given(args: argparse.Namespace, kind: type, *without: str) -> dict[str, Any]:
    """What the command line says of the fields of a dataclass."""
    return {name: getattr(args, name) for name in _defaults(kind) if name not in without}


def _defaults(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}
