"""
Training data: prompt and completion pairs, as ids with the loss mask.

`decodekit.chat` renders a pair, here and at prompting alike, so the mask comes from how a
row was built and never from looking for tokens in it. This module decides which rows are
fit to train on, and counts what it did. It knows no tensors and no model.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from decodekit.chat import Chat, Message, Rendered
from decodekit.errors import DecodekitError
from decodekit_export.jsonl import JsonLines, Problems

# As JSON spells them: all but tab and the ends of lines.
_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\(?:u00[01]|b|f)|\x7f")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file of pairs is read.

    prompt_key      the key of the prompt: a text, or a list of messages
    completion_key  the key of the completion: a text
    limit           rows to take from the start of the file, or None for all
    max_length      tokens a row may have
    window          what becomes of a longer row: "error", "left_prompt" (the oldest tokens of its
                    prompt go, those of the completion never) or "drop" (the row goes, and is counted)
    allow_empty     whether a prompt or a completion may be empty; an empty completion trains the stop token
    """

    max_length: int
    prompt_key: str = "prompt"
    completion_key: str = "completion"
    limit: int | None = None
    window: str = "error"
    allow_empty: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One pair as the model sees it: `mask[i]` says whether `ids[i]` is trained."""

    line: int
    ids: tuple[int, ...]
    mask: tuple[bool, ...]


@dataclass(slots=True)
class Counts:
    """What became of the lines of a file."""

    rows: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    truncated: int = 0
    dropped: int = 0
    repeated: int = 0  # same prompt, same completion
    with_control_characters: int = 0
    ignored_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows to train on, what they were counted as, and the digest of the file."""

    rows: Sequence[Row]
    counts: Counts
    sha256: str
    pairs: frozenset[bytes] = field(repr=False, default=frozenset())  # digests

    def overlap(self, other: Dataset) -> int:
        """How many pairs are in both."""
        return len(self.pairs & other.pairs)


def load(path: Path, chat: Chat, reading: Reading) -> Dataset:
    """Every row of a file of JSON lines, rendered. Raises DataError with the first faulty lines."""
    problems = Problems(path.name)
    lines = JsonLines(path, problems)
    counts = Counts()
    rows: list[Row] = []
    pairs: set[bytes] = set()
    ignored: set[str] = set()
    for line, value in islice(lines, reading.limit):
        try:
            prompt, completion = _pair(value, reading)
            rendered = _render(prompt, completion, chat)
            row = _fit(line, rendered, reading)
        except (Fault, DecodekitError) as exc:
            problems.add(line, str(exc))
            continue
        if row is None:
            counts.dropped += 1
            continue
        counts.truncated += len(row.ids) < len(rendered.ids)
        ignored |= value.keys() - {reading.prompt_key, reading.completion_key}
        text = json.dumps([prompt, completion], ensure_ascii=False)
        counts.with_control_characters += bool(_CONTROL.search(text))
        pair = hashlib.blake2b(text.encode(), digest_size=16).digest()
        counts.repeated += pair in pairs
        pairs.add(pair)
        rows.append(row)
    problems.close()
    if not rows:
        why = f"all {counts.dropped} rows were dropped" if counts.dropped else "it has no row"
        problems.add(1, f"nothing to train on, {why}; a row is one JSON object on one line")
        problems.close()
    counts.rows = len(rows)
    counts.tokens = sum(len(row.ids) for row in rows)
    counts.trained_tokens = sum(sum(row.mask) for row in rows)
    counts.ignored_keys = tuple(sorted(ignored))
    return Dataset(rows, counts, lines.sha256, frozenset(pairs))


class Fault(ValueError):
    """Why a row cannot be trained on, without its place."""


def _pair(value: dict[str, Any], reading: Reading) -> tuple[str | list[Message], str]:
    for key in (reading.prompt_key, reading.completion_key):
        if key not in value:
            raise Fault(_missing(key, list(value), reading))
    prompt, completion = value[reading.prompt_key], value[reading.completion_key]
    if not isinstance(prompt, str | list):
        raise Fault(f"{reading.prompt_key!r} must be a string or a list of messages, found {_kind(prompt)}")
    if not isinstance(completion, str):
        raise Fault(f"{reading.completion_key!r} must be a string, found {_kind(completion)}")
    if isinstance(prompt, list) and (wrong := [m for m in prompt if not isinstance(m, dict)]):
        raise Fault(f"{reading.prompt_key!r} must be a list of messages, one item is {_kind(wrong[0])}")
    for key, text in ((reading.prompt_key, prompt), (reading.completion_key, completion)):
        empty = isinstance(text, str) and not text.strip()
        if empty and not reading.allow_empty:
            raise Fault(f"{key!r} is empty - remove the row or set allow_empty")
    return prompt, completion


def _missing(key: str, found: list[str], reading: Reading) -> str:
    option = "prompt-key" if key == reading.prompt_key else "completion-key"
    taken = {reading.prompt_key, reading.completion_key}
    close = difflib.get_close_matches(key, [k for k in found if k not in taken], n=1, cutoff=0.5)
    keys = ", ".join(map(repr, found)) or "no key"
    way_out = f"did you mean {close[0]!r}? --{option} {close[0]}" if close else f"name it with --{option}"
    expected = f"{reading.prompt_key!r} and {reading.completion_key!r}"
    return f"no key {key!r}; expected {expected}, found {keys}; {way_out}"


def _kind(value: Any) -> str:
    kinds = {type(None): "null", bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a number")


def _render(prompt: str | list[Message], completion: str, chat: Chat) -> Rendered:
    rendered = chat.pair(prompt, completion)
    trained = sum(rendered.mask)
    if not trained:
        raise Fault("no token of it would be trained; the tokenizer makes nothing of the completion")
    asked = len(rendered.ids) - trained
    assert rendered.mask == (False,) * asked + (True,) * trained
    if not asked:
        raise Fault("no token comes before the completion; the first one cannot be predicted, give a prompt")
    return rendered


def _fit(line: int, rendered: Rendered, reading: Reading) -> Row | None:
    """The row within the window, or None if it is to be dropped."""
    trained = sum(rendered.mask)
    surplus = len(rendered.ids) - reading.max_length
    if surplus <= 0:
        return Row(line, rendered.ids, rendered.mask)
    if reading.window == "drop":
        return None
    if trained >= reading.max_length:
        raise Fault(
            f"the completion alone has {trained} tokens, which leaves no room for a prompt in "
            f"{reading.max_length}; shorten it, or drop such rows with --window drop"
        )
    if reading.window == "error":
        raise Fault(
            f"{len(rendered.ids)} tokens do not fit the window of {reading.max_length}; "
            "choose what goes with --window left_prompt or drop"
        )
    return Row(line, rendered.ids[surplus:], rendered.mask[surplus:])
