"""`decodekit score MODEL FILE`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decodekit import json_lines
from decodekit.commands.asking import add_machine, read_text
from decodekit.errors import DecodekitError, InputError, ParameterError, PromptError
from decodekit.hookspecs import Command
from decodekit.plugins import Plugins
from decodekit.score import Sum, total

if TYPE_CHECKING:
    from decodekit.scorer import Passage, Scorer

Row = tuple[str, Any, Any]  # place, text, prompt


class Score(Command):
    """decodekit score MODEL FILE"""

    help = "the perplexity of a text, or of the rows of a file"

    def __init__(self, plugins: Plugins) -> None:
        self.plugins = plugins

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("model", help="a bundle's folder, or the name of an embedded model")
        parser.add_argument("file", help="UTF-8 text, scored whole; - reads standard input")
        parser.add_argument("--prompt", metavar="TEXT", help="score the text as the answer to this")
        parser.add_argument(
            "--jsonl",
            action="store_true",
            help="score each row of a file of {text} or {prompt, completion} objects, one a line",
        )
        parser.add_argument(
            "--stride",
            type=int,
            metavar="N",
            help="tokens from window to window in a text longer than the context; default: half a window",
        )
        parser.add_argument("--adapter", metavar="NAME", help="of the bundle, to score under")
        add_machine(parser)
        parser.add_argument("--json", action="store_true", help="one JSON object")

    def run(self, args: argparse.Namespace) -> int:
        from decodekit import console
        from decodekit.loading import load
        from decodekit.progress_bars import ScoreBar

        rows = list(_rows(args))
        decoder = load(args.model, device=args.device, threads=args.threads, plugins=self.plugins)
        passages = [_passage(decoder.scorer, row, args.jsonl) for row in rows]
        sums, windows = [], 0
        with ScoreBar(sum(len(p.ids) - p.given - p.unseen for p in passages)) as bar:
            for passage in passages:
                windows += len(decoder.scorer.windows(passage, args.stride))
                sums.append(Sum())
                for piece in decoder.scorer.pieces(passage, stride=args.stride, adapter=args.adapter):
                    sums[-1] += (added := total(piece))
                    bar.advance(added)
        whole = sum(sums, Sum())
        if not whole.count:
            raise PromptError(f"{args.file}: no token has anything before it, so none has a log-probability")
        facts = {**whole.to_json(), "windows": windows}
        if args.json:
            each = [{"place": row[0], **one.to_json()} for row, one in zip(rows, sums)]
            print(json.dumps({"file": args.file, **facts, **({"rows": each} if args.jsonl else {})}))
        else:
            console.show_score(args.file, whole, windows, len(rows) if args.jsonl else None)
        return 0


def _rows(args: argparse.Namespace) -> Iterator[Row]:
    if not args.jsonl:
        yield args.file, read_text(args.file), args.prompt
        return
    if args.prompt is not None:
        raise ParameterError("--prompt and --jsonl exclude each other; give every row its prompt")
    stdin = args.file == "-"
    for place, row in (
        json_lines.objects(sys.stdin.buffer, "-") if stdin else json_lines.read(Path(args.file))
    ):
        if isinstance(row.get("text"), str) and not {"prompt", "completion"} & row.keys():
            yield place, row["text"], None
        elif isinstance(row.get("completion"), str) and _asks(row.get("prompt")) and "text" not in row:
            yield place, row["completion"], row["prompt"]
        else:
            have = ", ".join(map(repr, row)) or "nothing"
            raise InputError(
                f"{place}: a row has either a string text, or a string completion and a prompt, which is "
                f"a string or messages; got {have}"
            )


def _asks(prompt: Any) -> bool:
    return isinstance(prompt, str) or (
        isinstance(prompt, list) and bool(prompt) and all(isinstance(message, dict) for message in prompt)
    )


def _passage(scorer: Scorer, row: Row, of_many: bool) -> Passage:
    place, text, prompt = row
    try:
        return scorer.passage(text, prompt)
    except DecodekitError as exc:
        if not of_many:
            raise
        raise InputError(f"{place}: {exc}") from exc
