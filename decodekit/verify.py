"""
Verify: check a record without decoding, in one pass of the model over prompt and answer.

At every step the chain and the keyed draw must choose the recorded token, and the criteria must
end the answer exactly where the record ends.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from decodekit.again import changes, ended_by_time
from decodekit.answer import Answer
from decodekit.contest import Contest, Follower, Refuted, contest
from decodekit.decoder import Decoder
from decodekit.errors import RecordError
from decodekit.judge import Judge
from decodekit.ops import Array
from decodekit.preparation import Prepared
from decodekit.reading import read
from decodekit.record import Record
from decodekit.verdict import Verdict


def verify(decoder: Decoder, record: Record) -> Verdict:
    """Whether the record's tokens are those that model, chain, seed and criteria give.

    The logits are those of a pass over all tokens, whose kernels round in another way than those
    of single steps: the numbers are seldom equal, and a near tie is no fault.
    """
    prepared = decoder.again(record)
    if prepared.sampler.takes_back:
        raise RecordError(
            "a strategy of this record takes tokens back, which one pass does not show; replay it instead"
        )
    judge = Judge(record, changes(prepared.preparer, record), decoder.tokenizer.spell)
    follower = Follower(prepared.sampler.processors, ids=tuple(record.ids))
    answer, stop = _answer(prepared, follower), None
    try:
        for step, logits in enumerate(_rows(decoder, record, len(record.ids))):
            token = answer.take(logits)
            judge.see(step, token)
            stop = token.stop
            if stop and step + 1 < len(record.ids):
                return judge.ended(step, stop)
    except Refuted as refuted:
        return judge.lost(refuted.step, refuted.contest)
    return judge.over(stop, follower.near, anywhere=ended_by_time(record))


def contest_at(
    decoder: Decoder, prepared: Prepared, record: Record, step: int, drawn: int
) -> tuple[int, Contest]:
    """The recorded token of a step against the one drawn there; or of an earlier step, if lost already."""
    follower = Follower(prepared.sampler.processors, ids=tuple(record.ids))
    answer, rows = (
        _answer(prepared, follower),
        _rows(decoder, record, step + 1),
    )
    try:
        for _ in range(step):
            answer.take(next(rows))
    except Refuted as refuted:
        return refuted.step, refuted.contest
    logits = next(rows)
    here = answer.step(logits)
    return step, contest(follower, logits, here, answer.states, record.ids[step], drawn)


def _answer(prepared: Prepared, follower: Follower) -> Answer:
    return Answer(**prepared.parts(prepared.settings.sample) | {"sampler": follower})


def _rows(decoder: Decoder, record: Record, count: int) -> Iterator[Array]:
    """Logits [1, V] of what comes at each of the first `count` steps."""
    ids = np.asarray([*record.prompt, *record.ids[: count - 1]], np.int64)
    if count:
        for logits in read(decoder.engine, ids, len(record.prompt) - 1, record.adapter):
            yield from (row[None] for row in logits)
