"""decodekit architectures: try every causal language model class of the installed transformers."""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from decodekit.hookspecs import Command
from decodekit_export.errors import ExportError

if TYPE_CHECKING:
    from decodekit_export.trial import Trial

CACHES = ("in_place", "concatenating")


class Architectures(Command):
    """decodekit architectures [--only NAME]... [--results DIR] [--page FILE]"""

    help = "export a tiny model of every class of transformers and say which are right"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--only",
            action="append",
            metavar="NAME",
            help="of a class, such as LlamaForCausalLM; may be repeated",
        )
        parser.add_argument(
            "--cache", choices=CACHES, help="by default in place, then concatenating where that is advised"
        )
        parser.add_argument(
            "--results", type=Path, metavar="DIR", help="where what was tried is kept, and not tried again"
        )
        parser.add_argument("--page", type=Path, metavar="FILE", help="write the results as Markdown")
        parser.add_argument(
            "--prompts", type=int, default=50, metavar="N", help="random prompts of each gate"
        )
        parser.add_argument("--json", action="store_true", help="print the results as JSON lines")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit_export.architectures_page import page
        from decodekit_export.tiny import causal_language_models

        _quiet()
        types = causal_language_models()
        if unknown := set(args.only or ()) - types.keys():
            raise ExportError(
                f"no causal language model {min(unknown)!r} in transformers {version('transformers')}"
            )
        trials: list[Trial] = []
        for name in args.only or types:
            for trial in _trials(name, args):
                trials.append(trial)
                print(json.dumps(asdict(trial)) if args.json else _line(trial), flush=True)
        if args.page is not None:
            versions = {name: version(name) for name in ("transformers", "onnxruntime", "torch")}
            args.page.write_text(page(trials, types, versions), encoding="utf-8")
        return (
            0
            if args.only is None or all(any(t.passed for t in trials if t.name == n) for n in args.only)
            else 1
        )


def _quiet() -> None:
    """Tiny models are odd in many ways, which transformers says one by one."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    warnings.simplefilter("ignore")


def _trials(name: str, args: argparse.Namespace) -> list[Trial]:
    """One, or the second too where the first kind of cache fails and the other might not."""
    if args.cache:
        return [_trial(name, args.cache, args)]
    first = _trial(name, CACHES[0], args)
    return [first, _trial(name, CACHES[1], args)] if "--cache concatenating" in first.error else [first]


def _trial(name: str, cache: str, args: argparse.Namespace) -> Trial:
    """Of this run or of an earlier one."""
    from decodekit_export.trial import Trial, run_trial

    kept = args.results and args.results / f"{name}.{cache}.json"
    if kept and kept.is_file():
        fields = json.loads(kept.read_text(encoding="utf-8"))
        return Trial(**{**fields, "mechanisms": tuple(fields["mechanisms"])})
    trial = run_trial(name, cache, prompts=args.prompts)
    if kept:
        args.results.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asdict(trial)), encoding="utf-8")
    return trial


def _line(trial: Trial) -> str:
    if trial.error:
        return f"no   {trial.name} ({trial.cache}): {trial.error}"
    return (
        f"{'yes' if trial.passed else 'no '}  {trial.name} ({trial.cache}): logits {trial.logits:.1e}, "
        f"greedy {trial.agreed} of {trial.tokens}, ragged {trial.right} of {trial.ragged}"
    )
