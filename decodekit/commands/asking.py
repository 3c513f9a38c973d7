"""What commands have in common: arguments for a chain and its end, prompts and texts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from decodekit.errors import InputError


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How tokens are chosen, and how many at most."""
    parser.add_argument(
        "-p",
        "--process",
        action="append",
        metavar="NAME[.PARAMETER]=VALUE",
        help="a strategy; repeat for a chain",
    )
    parser.add_argument("--max-new-tokens", type=int, metavar="N")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--adapter", metavar="NAME", help="of the bundle, to decode under")


def add_chain(parser: argparse.ArgumentParser) -> None:
    """Strategies, criteria and limits, as `Settings` has them."""
    add_sampling(parser)
    parser.add_argument(
        "-c",
        "--criterion",
        action="append",
        metavar="NAME[.PARAMETER]=VALUE",
        help="a stopping criterion",
    )
    parser.add_argument("--min-new-tokens", type=int, default=0, metavar="N", help="no end before so many")
    parser.add_argument("--ignore-eos", action="store_true", help="go on at the model's end tokens")
    parser.add_argument("--max-time", type=float, metavar="SECONDS")
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text")
    parser.add_argument("--stop-token-id", action="append", default=[], type=int, metavar="ID")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Where the model runs."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 or auto")
    parser.add_argument("--threads", type=int, metavar="N", help="for one operator on the CPU")


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_chain` was given, but for the chain, as options of `Decoder.generate`."""
    return {
        "max_new_tokens": args.max_new_tokens,
        "min_new_tokens": args.min_new_tokens,
        "ignore_eos": args.ignore_eos,
        "max_time": args.max_time,
        "stop": args.stop,
        "stop_token_ids": args.stop_token_id,
        "criteria": args.criterion,
        "seed": args.seed,
        "adapter": args.adapter,
    }


def read_prompt(text: str) -> str:
    """A prompt from the command line; - stands for standard input."""
    return sys.stdin.read().rstrip("\n") if text == "-" else text


def read_text(file: str) -> str:
    """The text in a file, UTF-8; - stands for standard input."""
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as exc:
        raise InputError(f"{file}: cannot be read ({exc.strerror or exc}); check the path") from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{file}: not UTF-8 at byte {exc.start}; convert it") from exc
