"""
The judge: holds the tokens that come about here against a record, step by step.

Numbers of another kernel, version, batch or number of threads differ in their last digits; those
of another prompt, chain or model differ by more. So a record has some for every step, and what
is wrong is found there even where the tokens happen to be the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from decodekit.answer import Token
from decodekit.contest import Contest
from decodekit.record import Record, shortest
from decodekit.stopping import Stop
from decodekit.verdict import Verdict

ROUNDING = 1e-3  # of the largest logit or score in the record: no kernel is further off
GROWTH = 100.0  # so much more than the logits may the scores differ: a chain may magnify
DIGITS = 1e-5  # of the largest score: the chain's own rounding
WIDTHS = 0.01  # of the columns that a token was drawn from, which rounding may move across a bound


class Judge:
    """Gives the verdict on one record.

    changed  what is not as it was: bundle, versions, provider
    spell    a token as text
    """

    def __init__(self, record: Record, changed: Sequence[str], spell: Callable[[int], str]) -> None:
        self._record, self._changed, self._spell = record, changed, spell
        self._logit_scale, self._score_scale = (
            max(1.0, *map(abs, numbers)) if numbers else 1.0 for numbers in (record.logits, record.scores)
        )
        self._noise = 0.0  # largest difference of a logit, as a share of the largest logit
        self._first: int | None = None  # step with other numbers
        self._far: tuple[int, str] | None = None  # step with numbers too far off, and how
        self._width: int | None = None  # step with another width

    def see(self, step: int, token: Token) -> None:
        """The token that was chosen at a step, as recorded."""
        record = self._record
        here = shortest(token.logit), shortest(token.score), token.width
        if here == (record.logits[step], record.scores[step], record.widths[step]):
            return
        self._first = step if self._first is None else self._first
        if token.width != record.widths[step] and self._width is None:
            self._width = step
        if self._far is None and (how := self._how(step, token)):
            self._far = step, how

    def lost(self, step: int, contest: Contest) -> Verdict:
        """The verdict where another token is drawn."""
        recorded, drawn = (f"{self._spell(id)!r} ({id})" for id in (contest.recorded, contest.drawn))
        reason = "a near tie, which rounding decides" if contest.near else self._suspect(step, contest)
        why = f"the record has {recorded}, here {drawn} is drawn; {_how_lost(contest)}: {reason}"
        return self._verdict("token", why + self._sooner(), step, contest.gap)

    def other(self, step: int, id: int) -> Verdict:
        """The verdict where another token stands, and one pass cannot show why."""
        recorded, here = (f"{self._spell(i)!r} ({i})" for i in (self._record.ids[step], id))
        return self._verdict("token", f"the record has {recorded}, here {here} stands" + self._sooner(), step)

    def ended(self, step: int, stop: Stop) -> Verdict:
        """The verdict where the answer ends at a token that is not the record's last."""
        why = f"here the answer ends ({_end(stop.reason, stop.by)}), the record goes on"
        return self._verdict("end", why + self._sooner(), step)

    def over(self, stop: Stop | None, near: Sequence[int] = (), *, anywhere: bool = False) -> Verdict:
        """The verdict after the record's last token.

        stop      of that token, here
        near      steps at which the recorded token was taken in a near tie
        anywhere  the record may end where it does: its time was over
        """
        record = self._record
        recorded = record.finish_reason, record.stopped_by
        if not anywhere and (stop is None or (stop.reason, stop.by) != recorded):
            here = "nothing ends it" if stop is None else _end(stop.reason, stop.by)
            why = f"the record ends ({_end(*recorded)}), here {here}"
            return self._verdict("end", why + self._sooner(), max(0, len(record.ids) - 1))
        if (far := self._evidence()) is not None:
            return self._verdict("numbers", f"the tokens are the record's, but {far[1]}", far[0])
        steps = [step for step in (self._first, *near) if step is not None]
        if steps:
            ties = f"; near ties at steps {', '.join(map(str, near))}" if near else ""
            why = (
                f"the tokens are the record's; logits differ by up to {self._noise:.1e} of the largest, as "
                f"those of another kernel, batch, version or number of threads do{ties}"
            )
            return self._verdict("rounded", why, min(steps))
        return self._verdict("equal", f"{len(record.ids)} tokens and their numbers are the record's")

    def _verdict(self, outcome: str, why: str, step: int | None = None, gap: float | None = None) -> Verdict:
        return Verdict(outcome, why, step, gap, self._changed)

    def _same_logit(self, step: int, here: float) -> bool:
        """Whether rounding explains the difference."""
        off = abs(shortest(here) - self._record.logits[step]) / self._logit_scale
        self._noise = max(self._noise, off)
        return off <= ROUNDING

    def _same_score(self, step: int, here: float) -> bool:
        off = abs(shortest(here) - self._record.scores[step]) / self._score_scale
        return off <= min(ROUNDING, max(DIGITS, GROWTH * self._noise))

    def _how(self, step: int, token: Token) -> str:
        """What is further off at a step than rounding explains; ""."""
        logit, score = self._record.logits[step], self._record.scores[step]
        width = self._record.widths[step]
        if not self._same_logit(step, token.logit):
            return (
                f"the token's logit is recorded as {logit:.6g} and is {token.logit:.6g}: "
                "another prompt or model"
            )
        if not self._same_score(step, token.score):
            return (
                f"the token's logit after the chain is recorded as {score:.6g} and is {token.score:.6g}: "
                "another chain"
            )
        return self._widths(step) if abs(token.width - width) > 1 + WIDTHS * width else ""

    def _widths(self, step: int) -> str:
        return f"the token was drawn from {self._record.widths[step]} columns, here not: another chain"

    def _evidence(self) -> tuple[int, str] | None:
        """The first step whose numbers rounding does not explain, and how.

        Where all logits are equal to the last digit, no other width is of rounding.
        """
        if self._far is None and self._width is not None and not self._noise:
            return self._width, self._widths(self._width)
        return self._far

    def _sooner(self) -> str:
        """The same, to be appended to what was found later."""
        far = self._evidence()
        return "" if far is None else f"; already at step {far[0]}, {far[1]}"

    def _suspect(self, step: int, contest: Contest) -> str:
        """What else is recorded about a token that lost, and what that makes likely."""
        if not self._same_logit(step, contest.logit):
            return (
                f"its logit is recorded as {self._record.logits[step]:.6g} and is {contest.logit:.6g}, "
                "so prompt, model or the token itself are others"
            )
        if contest.score is None or not self._same_score(step, contest.score):
            return "its logit is as recorded, but not what the chain makes of it, so the chain is another"
        return "its logit before and after the chain is as recorded, so the seed or the sample is another"


def _how_lost(contest: Contest) -> str:
    if not contest.removed_by:
        return f"the recorded one loses by {contest.gap:.2g} nats"
    behind = f", {contest.gap:.2g} nats behind the last it keeps" if math.isfinite(contest.gap) else ""
    return f"{contest.removed_by} removes the recorded one{behind}"


def _end(reason: str, by: str) -> str:
    return f"{reason}, {by}" if by else reason
