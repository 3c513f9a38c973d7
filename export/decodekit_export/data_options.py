"""The options that say how rows are read, the same for every verb that reads them."""

from __future__ import annotations

import argparse
from pathlib import Path

from decodekit.errors import ParameterError
from decodekit_export.data import Reading
from decodekit_export.settings import Settings
from decodekit_export.shapes import columns_of
from decodekit_export.window import POLICIES

NAMES = ("valid", "map", "limit", "skip_bad", "allow_empty", "refuse_special", "window", "max_length")


def add_data_options(parser: argparse.ArgumentParser, *, window: str = "error") -> None:
    """Declare the options named in NAMES."""
    parser.add_argument(
        "--valid", type=Path, metavar="FILE", help="rows to measure the loss on; or a share, such as 5%%"
    )
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="FIELD=KEY",
        help="a field of a row that stands under another key, such as prompt=question",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="take the first N rows only")
    parser.add_argument(
        "--skip-bad", type=int, default=0, metavar="N", help="bad rows to pass over; NAME.bad.txt lists them"
    )
    parser.add_argument("--allow-empty", action="store_true", help="accept empty prompts and completions")
    parser.add_argument(
        "--refuse-special", action="store_true", help="refuse rows with the text of a special token"
    )
    parser.add_argument(
        "--window",
        choices=POLICIES,
        default=window,
        help=f"what becomes of a row that is too long (default {window})",
    )
    parser.add_argument(
        "--max-length",
        type=int,
        metavar="N",
        help="tokens a row may have; by default what the model can read",
    )


def reading_of(settings: Settings, context_length: int) -> Reading:
    """How the settings say that rows are read for a model of that context."""
    if settings.max_length is not None and settings.max_length > context_length:
        raise ParameterError(
            f"finetune: max_length must be in [2, {context_length}], which the model can read, "
            f"got {settings.max_length}"
        )
    return Reading(
        max_length=settings.max_length or context_length,
        columns=columns_of(settings.map),
        limit=settings.limit,
        window=settings.window,
        allow_empty=settings.allow_empty,
        refuse_special=settings.refuse_special,
        skip_bad=settings.skip_bad,
    )
