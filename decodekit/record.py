"""
A record: what it takes to decode an answer again, and the numbers to hold the new one against.

It knows no model. A strategy is kept as its registered name, its options as plain data and the
distribution it came with; there is no code in a record. `Completion.recipe` is a record as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from decodekit import json_lines
from decodekit.answer import Token
from decodekit.chain import Link
from decodekit.errors import RecordError

FORMAT = 1
MAX_ID = 2**31
MAX_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Entry:
    """A strategy of a chain, or a criterion.

    name     it is registered under; the class name where it is not
    options  of the factory, plain data; None where it cannot be made from such
    origin   distribution and version
    """

    name: str
    options: Mapping[str, Any] | None
    origin: str

    @staticmethod
    def of(link: Link) -> Entry:
        return Entry(link.name, link.options, link.origin)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        return {"name": self.name, "options": self.options, "from": self.origin}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One answer.

    bundle, bundle_sha256   name and hash of the model folder
    made_by                 versions of the libraries, and the execution provider
    chain, criteria         in order; the criteria are all of them, the model's own end included
    min_new_tokens, stop_token_ids, ignore_eos, adapter   as in `Settings`
    seed, sample            name the noise
    prompt, ids             token ids
    logits, scores, widths  of each token of `ids`: its logit before and after the chain, float32,
                            nats, and how many columns it was drawn from
    finish_reason, stopped_by   the verdict that ended the answer
    """

    bundle: str
    bundle_sha256: str
    made_by: Mapping[str, str]
    chain: Sequence[Entry]
    criteria: Sequence[Entry]
    min_new_tokens: int
    stop_token_ids: Sequence[int]
    ignore_eos: bool
    adapter: str | None
    seed: int
    sample: int
    prompt: Sequence[int]
    ids: Sequence[int]
    logits: Sequence[float]
    scores: Sequence[float]
    widths: Sequence[int]
    finish_reason: str
    stopped_by: str

    def to_json(self) -> dict[str, Any]:
        """Plain data, for `json.dumps`."""
        return {"record": FORMAT} | {name: _plain(getattr(self, name)) for name in _CHECKS}

    @classmethod
    def from_json(cls, data: Any, place: str = "record") -> Record:
        """The record that `to_json` gave; RecordError, which begins with `place`, where it is none."""
        if not isinstance(data, Mapping) or "record" not in data:
            raise RecordError(f"{place}: no record of an answer; `decodekit generate --record` writes some")
        if data["record"] != FORMAT:
            raise RecordError(f"{place}: format {data['record']!r:.20} is not known here, only {FORMAT}")
        for name in data.keys() ^ (_CHECKS.keys() | {"record"}):
            what = "a field that no record has" if name in data else "missing; the record was cut"
            raise RecordError(f"{place}: {name!r:.40} is {what}")
        try:
            record = cls(**{name: check(data[name], name) for name, check in _CHECKS.items()})
        except ValueError as exc:
            raise RecordError(f"{place}: {exc}") from exc
        for name in ("logits", "scores", "widths"):
            if len(getattr(record, name)) != len(record.ids):
                raise RecordError(
                    f"{place}: {name} must have a number for each of {len(record.ids)} ids, "
                    f"got {len(getattr(record, name))}"
                )
        return record


def numbers(tokens: Sequence[Token]) -> dict[str, Any]:
    """The fields of a record that are about single tokens."""
    return {
        "ids": tuple(token.id for token in tokens),
        "logits": tuple(shortest(token.logit) for token in tokens),
        "scores": tuple(shortest(token.score) for token in tokens),
        "widths": tuple(token.width for token in tokens),
    }


def shortest(number: float) -> float:
    """A float32 as the float64 with the fewest digits that rounds to it."""
    return float(str(np.float32(number)))


def append(path: Path, record: Record) -> None:
    """Write a record behind those that a file has, a line each."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.to_json(), allow_nan=False) + "\n")
    except OSError as exc:
        raise RecordError(f"{path}: cannot be written ({exc.strerror or exc}); check the path") from exc


def read(path: Path) -> Iterator[tuple[str, Record]]:
    """The place of each record in a file, "file:line", and the record."""
    for place, data in json_lines.read(path):
        yield place, Record.from_json(data, place)


def _plain(value: Any) -> Any:
    if isinstance(value, Entry):
        return value.to_json()
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {value!r:.40}")
    return value


def _name(value: Any, name: str) -> str | None:
    return None if value is None else _text(value, name)


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r:.40}")
    return value


def _whole(end: int, value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value < end:
        raise ValueError(f"{name} must be a whole number in [0, {end}), got {value!r:.40}")
    return value


def _number(value: Any, name: str) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_FLOAT32:
        raise ValueError(f"{name} must be a finite number of 32 bits, got {value!r:.40}")
    return float(value)


def _many(check: Callable[[Any, str], Any], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list, got {value!r:.40}")
    return tuple(check(item, f"{name}[{i}]") for i, item in enumerate(value))


def _some(check: Callable[[Any, str], Any], value: Any, name: str) -> tuple[Any, ...]:
    if not (items := _many(check, value, name)):
        raise ValueError(f"{name} is empty")
    return items


def _versions(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must map names to versions, got {value!r:.40}")
    return {key: _text(version, f"{name}[{key!r:.40}]") for key, version in value.items()}


def _entry(value: Any, name: str) -> Entry:
    if not isinstance(value, Mapping) or value.keys() != {"name", "options", "from"}:
        raise ValueError(f"{name} must have name, options and from, got {value!r:.40}")
    options = value["options"]
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"{name}.options must be an object or null, got {options!r:.40}")
    return Entry(_text(value["name"], f"{name}.name"), options, _text(value["from"], f"{name}.from"))


_id = partial(_whole, MAX_ID)
_seed = partial(_whole, 2**64)
_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {
    "bundle": _text,
    "bundle_sha256": _text,
    "made_by": _versions,
    "chain": partial(_some, _entry),
    "criteria": partial(_some, _entry),
    "min_new_tokens": _id,
    "stop_token_ids": partial(_many, _id),
    "ignore_eos": _flag,
    "adapter": _name,
    "seed": _seed,
    "sample": _seed,
    "prompt": partial(_some, _id),
    "ids": partial(_many, _id),
    "logits": partial(_many, _number),
    "scores": partial(_many, _number),
    "widths": partial(_many, _id),
    "finish_reason": _text,
    "stopped_by": _text,
}
