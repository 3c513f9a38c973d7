"""The laws of a stopping criterion, each by its sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from decodekit.stopping import Stop, StoppingCriterion
from decodekit.testing.continuation import continuation
from decodekit.testing.obedience import obey
from decodekit.testing.surroundings import changed, surroundings


def answers_a_verdict(criterion: StoppingCriterion, seed: int) -> None:
    """answers a Stop or None"""
    for progress in continuation(criterion, seed):
        stop = criterion.check(progress)
        assert stop is None or isinstance(stop, Stop)


def repeats(criterion: StoppingCriterion, seed: int) -> None:
    """same progress, same verdict"""
    progresses = list(continuation(criterion, seed))
    first = [criterion.check(progress) for progress in progresses]
    assert first == [criterion.check(progress) for progress in progresses]
    assert first[::-1] == [criterion.check(progress) for progress in progresses[::-1]]


def gives_a_reason(criterion: StoppingCriterion, seed: int) -> None:
    """gives a reason"""
    for stop in _stops(criterion, seed):
        assert isinstance(stop.reason, str) and stop.reason


def keeps_a_part(criterion: StoppingCriterion, seed: int) -> None:
    """keeps a part of the text"""
    for progress in continuation(criterion, seed):
        stop = criterion.check(progress)
        assert stop is None or stop.keep is None or 0 <= stop.keep <= len(progress.text)


def holds_back_a_part(criterion: StoppingCriterion, seed: int) -> None:
    """holds back a part of the text"""
    for progress in continuation(criterion, seed):
        assert 0 <= criterion.pending(progress.text) <= len(progress.text)


def held_back_what_it_cuts(criterion: StoppingCriterion, seed: int) -> None:
    """text that a verdict cuts off was held back before"""
    for trial in range(20):
        shown = 0
        for progress in continuation(criterion, seed + trial):
            if (stop := criterion.check(progress)) is not None:
                assert stop.keep is None or stop.keep >= shown
                break
            shown = max(shown, len(progress.text) - criterion.pending(progress.text))


def leaves_the_process_alone(criterion: StoppingCriterion, seed: int) -> None:
    """changes nothing around it"""
    before = surroundings()
    for progress in continuation(criterion, seed):
        criterion.check(progress)
        criterion.pending(progress.text)
    assert not (names := changed(before, surroundings())), ", ".join(names)


LAWS: tuple[Callable[[StoppingCriterion, int], None], ...] = (
    answers_a_verdict,
    repeats,
    gives_a_reason,
    keeps_a_part,
    holds_back_a_part,
    held_back_what_it_cuts,
    leaves_the_process_alone,
)


def check_stopping_criterion(criterion: StoppingCriterion, *, seed: int = 0) -> None:
    """Raise AssertionError, naming the law, if `criterion` breaks the contract."""
    for law in LAWS:
        obey(law.__doc__ or "", partial(law, criterion, seed))


def _stops(criterion: StoppingCriterion, seed: int) -> Iterator[Stop]:
    for progress in continuation(criterion, seed):
        if (stop := criterion.check(progress)) is not None:
            yield stop
