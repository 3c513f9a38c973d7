import pytest

from decodekit import LogitsProcessor
from decodekit.chain import parse
from decodekit.errors import ParameterError, UnknownNameError
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.logit_bias import LogitBias
from decodekit.strategies.min_p import MinP
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_p import TopP


@pytest.fixture
def chain(plugins):
    return lambda written: tuple(
        link.strategy for link in parse(written, plugins.logits_processors, LogitsProcessor)
    )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (None, ()),
        ("", ()),
        ("greedy", (Greedy(),)),
        ("temperature=0.8, top_p=0.9", (Temperature(0.8), TopP(0.9))),
        ("top_p=0.9,temperature=0.8", (TopP(0.9), Temperature(0.8))),
        (["temperature=0.8", "top_p.p=0.9"], (Temperature(0.8), TopP(0.9))),
        ('logit_bias={"3": 1.5, "4": -2}, top_p=1', (LogitBias({3: 1.5, 4: -2}), TopP(1))),
        (TopP(0.9), (TopP(0.9),)),
        ([MinP(0.1), "top_p=0.9", Temperature(2)], (MinP(0.1), TopP(0.9), Temperature(2))),
    ],
)
def test_a_chain_is_applied_in_the_order_written(chain, written, expected):
    assert chain(written) == expected


@pytest.mark.parametrize(
    ("written", "error", "message"),
    [
        ("topp=0.9", UnknownNameError, "did you mean 'top_p'"),
        ("top_p=1.2", ParameterError, r"top_p: p must be in \[0, 1\], got 1.2"),
        ("top_p=high", ParameterError, "must be a number in .*, got 'high'"),
        ("top_p", ParameterError, r"top_p: missing a required argument: 'p'; it takes p: float"),
        ("top_p.q=1", ParameterError, "it takes p: float"),
        ("top_p.p", ParameterError, "top_p.p has no value; write top_p.p=VALUE"),
        ("top_p=0.9, top_p=0.8", ParameterError, "top_p is given twice"),
        ("top_p.p=0.9, top_p.p=0.8", ParameterError, "top_p.p is given twice"),
        ("greedy, greedy", ParameterError, "greedy is given twice"),
        ("greedy=1", ParameterError, "it takes no options"),
        ([3], ParameterError, "a chain holds texts and LogitsProcessor objects, got 3"),
        (5, ParameterError, "a chain is a text, or texts and LogitsProcessor objects, got 5"),
        ("top_p=NaN", ParameterError, "got nan"),
    ],
)
def test_what_is_wrong_in_a_chain_is_named(chain, written, error, message):
    with pytest.raises(error, match=message):
        chain(written)


def test_a_quote_that_is_escaped_ends_no_text():
    from decodekit.chain import _split

    assert _split(r'a="x\", y", b="\\", c=1') == [r'a="x\", y"', r'b="\\"', "c=1"]
    assert _split("a\\, b") == ["a\\", "b"]
