"""
The window: what becomes of a row that is longer than a model may read.

Whatever the policy, no token of a completion goes. Where a conversation is too long, its answers are
divided among several rows, each with as much of what came before as there is room for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from decodekit.chat import Rendered
from decodekit_export.examples import Fault

POLICIES = ("error", "left_prompt", "drop")

Span = tuple[int, int]  # begin and end


def fit(row: Rendered, length: int, policy: str) -> list[Rendered]:
    """The rows of at most `length` tokens that come of one; none if it is dropped. Raises Fault."""
    if len(row.ids) <= length:
        return [row]
    if policy == "drop":
        return []
    answers = trained_spans(row.mask)
    longest = max(end - begin for begin, end in answers)
    if longest >= length:
        raise Fault(
            f"the completion alone has {longest} tokens, which leaves no room for a prompt in {length}; "
            "shorten it, or drop such rows with --window drop"
        )
    if policy == "error":
        raise Fault(
            f"{len(row.ids)} tokens do not fit the window of {length}; "
            "choose what goes with --window left_prompt or drop"
        )
    return list(_windows(row, answers, length))


def trained_spans(mask: Sequence[bool]) -> list[Span]:
    """Where the runs of trained tokens begin and end."""
    spans, at = [], 0
    for trained, run in groupby(mask):
        end = at + sum(1 for _ in run)
        if trained:
            spans.append((at, end))
        at = end
    return spans


def _windows(row: Rendered, answers: list[Span], length: int) -> Iterator[Rendered]:
    """As many turns in each as fit whole; what is left over is filled with what came before them."""
    first = 0
    while first < len(answers):
        turn = answers[first - 1][1] if first else 0
        last = first
        while last + 1 < len(answers) and answers[last + 1][1] - turn <= length:
            last += 1
        end = answers[last][1]
        begin = max(end - length, 0)
        trained = (row.mask[i] and i >= answers[first][0] for i in range(begin, end))
        yield Rendered(row.ids[begin:end], tuple(trained))
        first = last + 1
