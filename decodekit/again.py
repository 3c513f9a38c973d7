"""
Again: the request that a record tells of, prepared once more.

Strategies are made from their registered names and options, as for any request that comes from
outside. No limit of time is taken over: it ended the answer at a moment of the clock, which
does not come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from decodekit.chain import link
from decodekit.errors import DecodekitError, RecordError, UnknownNameError
from decodekit.plugins import Registry
from decodekit.preparation import Prepared, Preparer
from decodekit.record import Entry, Record
from decodekit.settings import Settings
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.max_time import MaxTime


def prepare_again(preparer: Preparer, record: Record) -> Prepared:
    """What the record asks for, with this model and these plugins."""
    for i, id in enumerate(record.ids):
        if id >= preparer.vocabulary:
            own = record.bundle_sha256 == preparer.origin["bundle_sha256"]
            raise RecordError(
                f"ids[{i}] must be a token id of this model, in [0, {preparer.vocabulary}), got {id}"
                + ("" if own else f"; it is of another bundle, {record.bundle!r}")
            )
    settings = Settings(
        min_new_tokens=record.min_new_tokens,
        stop_token_ids=record.stop_token_ids,
        ignore_eos=record.ignore_eos,
        adapter=record.adapter,
        seed=record.seed,
        sample=record.sample,
    )
    prepared = preparer.prepare(
        record.prompt, _made("chain", record.chain, preparer.plugins.logits_processors), settings
    )
    registry = preparer.plugins.stopping_criteria
    criteria = [one.bind(preparer.tokenizer) for one in _made("criteria", record.criteria, registry)]
    limits = [one.n for one in criteria if isinstance(one, MaxNewTokens)]
    if not limits:
        raise RecordError("criteria must have max_new_tokens, which every record has; it was taken out")
    room = preparer.bundle.room(len(record.prompt), min(limits))
    links = tuple(link(one, registry) for one in criteria if not isinstance(one, MaxTime))
    return replace(prepared, room=room, criteria=links)


def ended_by_time(record: Record) -> bool:
    """Whether a limit of time ended the answer, so that it might as well be shorter or longer."""
    return record.finish_reason == "time" and any(entry.name == "max_time" for entry in record.criteria)


def changes(preparer: Preparer, record: Record) -> tuple[str, ...]:
    """What is not as the record says it was: bundle, libraries, provider and plugins."""
    present = {"bundle sha256": preparer.origin["bundle_sha256"], **preparer.origin["made_by"]}
    recorded = {"bundle sha256": record.bundle_sha256, **record.made_by}
    for registry, entries in (
        (preparer.plugins.logits_processors, record.chain),
        (preparer.plugins.stopping_criteria, record.criteria),
    ):
        for entry in entries:
            recorded[entry.name] = entry.origin
            present[entry.name] = registry.plugin(entry.name).distribution
    return tuple(
        f"{name}: {recorded.get(name, 'none')} -> {present.get(name, 'none')}"
        for name in recorded | present
        if recorded.get(name) != present.get(name)
    )


def _made(field: str, entries: Sequence[Entry], registry: Registry) -> list[Any]:
    return [_one(f"{field}[{i}]", entry, registry) for i, entry in enumerate(entries)]


def _one(place: str, entry: Entry, registry: Registry) -> Any:
    if entry.options is None:
        raise RecordError(
            f"{place}: {entry.name} cannot be made again: it was given as an object that no registered "
            "name and options stand for; register its class, a dataclass, in a plugin"
        )
    try:
        return registry.create(entry.name, **entry.options)
    except UnknownNameError as exc:
        raise RecordError(f"{place}: {exc}; it came with {entry.origin or 'no distribution'}") from exc
    except DecodekitError as exc:
        found = registry.plugin(entry.name).distribution
        moved = f" (recorded with {entry.origin}, here is {found})" if entry.origin != found else ""
        raise RecordError(f"{place}: {exc}{moved}") from exc
