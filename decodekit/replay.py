"""Replay: decode what a record tells of again, the way every request is decoded."""

from __future__ import annotations

import queue
from collections.abc import Iterator

from decodekit.again import changes, ended_by_time
from decodekit.answer import Token
from decodekit.decoder import Decoder
from decodekit.judge import Judge
from decodekit.record import Record
from decodekit.request import Event
from decodekit.verdict import Verdict
from decodekit.verify import contest_at


def replay(decoder: Decoder, record: Record) -> Verdict:
    """Whether the same tokens come again, in the same numbers.

    It ends at the first token that is another one. Why it may be is looked up in a pass over the
    recorded tokens so far.
    """
    prepared = decoder.again(record)
    judge = Judge(record, changes(prepared.preparer, record), decoder.tokenizer.spell)
    if not record.ids:
        return judge.over(None, anywhere=ended_by_time(record))
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    request, _ = decoder.request(prepared, record.sample, events.put)
    decoder.engine.submit(request)
    try:
        tokens = _standing(events, prepared.sampler.takes_back)
        for step, (id, token) in enumerate(zip(record.ids, tokens)):
            if token.id != id and prepared.sampler.takes_back:
                return judge.other(step, token.id)
            if token.id != id:
                return judge.lost(*contest_at(decoder, prepared, record, step, token.id))
            judge.see(step, token)
            if token.stop and step + 1 < len(record.ids):
                return judge.ended(step, token.stop)
    finally:
        request.cancel()
    return judge.over(token.stop, anywhere=ended_by_time(record))


def _standing(events: queue.SimpleQueue[Event], takes_back: bool) -> Iterator[Token]:
    """The tokens of an answer; where some may be taken back, they are known at its end."""
    tokens: list[Token] = []
    while not tokens or tokens[-1].stop is None:
        tokens.append(_next(events))
        if not takes_back:
            yield tokens[-1]
        elif count := tokens[-1].takes_back:
            del tokens[-count:]
    if takes_back:
        yield from tokens


def _next(events: queue.SimpleQueue[Event]) -> Token:
    event = events.get()
    if isinstance(event, BaseException):
        raise event
    assert isinstance(event, Token), "without a limit of time, only a token ends a request"
    return event
