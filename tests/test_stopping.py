import numpy as np
import pytest

from decodekit.errors import ParameterError
from decodekit.history import History
from decodekit.stopping import Progress, Stop, first_stop
from decodekit.strategies.end_tokens import EndTokens
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.strategies.max_time import MaxTime
from decodekit.strategies.stop_strings import StopStrings
from decodekit.testing import check_stopping_criterion


def progress(text="", start=0, ids=(1, 2), asked=1, elapsed=0.0):
    return Progress(History(np.asarray(ids), asked), text, start, elapsed)


@pytest.mark.parametrize(
    "criterion", [EndTokens([3]), MaxNewTokens(5), MaxTime(1.0), StopStrings(["b.", "."])], ids=repr
)
def test_every_criterion_keeps_the_contract(criterion):
    check_stopping_criterion(criterion)


def test_any_of_several_end_tokens_ends_the_sequence():
    end = EndTokens([7, 9])
    assert end.check(progress(ids=(1, 8))) is None
    assert end.check(progress(ids=(1, 7))).reason == "stop"
    assert end.check(progress(ids=(1, 9))).by == "token 9"


def test_an_end_token_in_the_prompt_does_not_count():
    assert EndTokens([7]).check(progress(ids=(7, 8))) is None


def test_the_text_of_an_end_token_is_no_part_of_the_answer():
    assert EndTokens([9]).check(progress("hi END", start=2, ids=(1, 9))).keep == 2
    assert EndTokens([9]).check(progress("hi", start=2, ids=(1, 9))).keep is None


def test_max_new_tokens_does_not_count_the_prompt():
    assert MaxNewTokens(2).check(progress(ids=(1, 1, 1, 5), asked=3)) is None
    assert MaxNewTokens(2).check(progress(ids=(1, 5, 5), asked=1)).reason == "length"


def test_max_time_is_in_seconds():
    assert MaxTime(1.5).check(progress(elapsed=1.4)) is None
    assert MaxTime(1.5).check(progress(elapsed=1.5)) == Stop("time", by="1.5 s")


def test_a_stop_string_may_straddle_tokens():
    assert StopStrings(["END"]).check(progress("some EN", start=5)) is None
    assert StopStrings(["END"]).check(progress("some END of", start=7)).keep == 5


def test_the_stop_string_that_is_complete_first_counts_then_the_longest():
    stop = StopStrings(["bcde", "cd", "bcd"]).check(progress("abcde", start=0))
    assert (stop.keep, stop.by) == (1, "'bcd'")


def test_what_may_become_a_stop_string_is_pending():
    end = StopStrings(["END", "aab"])
    assert [end.pending(text) for text in ("some", "some E", "some EN", "aa", "aaa", "")] == [
        0,
        1,
        2,
        2,
        2,
        0,
    ]


def test_the_first_criterion_that_fires_gives_the_verdict():
    criteria = [MaxNewTokens(9), EndTokens([2]), MaxNewTokens(1)]
    assert first_stop(criteria, progress()).by == "token 2"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StopStrings([]), "need one or more non-empty strings"),
        (lambda: StopStrings(["a", ""]), "need one or more non-empty strings"),
        (lambda: StopStrings(5), "need one or more non-empty strings, got 5"),
        (lambda: StopStrings({"a": 1}), "need one or more non-empty strings, got {'a': 1}"),
        (lambda: StopStrings(["x"] * 17), "at most 16 strings of 1024 bytes"),
        (lambda: StopStrings(["x" * 1025]), "at most 16 strings of 1024 bytes"),
        (lambda: MaxNewTokens(0), r"max_new_tokens: n must be in \[1, inf\), got 0"),
        (lambda: MaxTime(0), r"max_time: seconds must be in \(0, inf\), got 0"),
        (lambda: EndTokens(["a"]), "end_tokens: ids must be token ids"),
    ],
)
def test_a_value_outside_its_domain_is_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
