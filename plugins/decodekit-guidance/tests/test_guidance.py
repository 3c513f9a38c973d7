import array_api_strict
import numpy as np
import pytest
from decodekit_guidance import Guidance, guided

import decodekit
from decodekit.errors import ContextError, ParameterError
from decodekit.ops import log_softmax
from decodekit.processors import Step
from decodekit.record import Record
from decodekit.replay import replay
from decodekit.testing import histories
from decodekit.verify import verify

PROMPT, SECOND = "A bakery", "A shop for maps"
CHAIN = f'guidance.scale=3, guidance.prompt="{SECOND}", temperature=0.9'


def by_hand(logits, other, scale):
    """In float64, one number at a time."""
    out = []
    for row, second in zip(np.float64(logits), np.float64(other), strict=True):
        c = row - np.log(sum(np.exp(x) for x in row))
        u = second - np.log(sum(np.exp(x) for x in second))
        out.append([b + scale * (a - b) for a, b in zip(c, u, strict=True)])
    return np.asarray(out)


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.5, 10.0])
def test_the_definition(scale):
    random = np.random.default_rng(0)
    logits, other = random.standard_normal((2, 3, 7)).astype(np.float32) * 3
    found = guided(logits, log_softmax(other), scale)
    assert found == pytest.approx(by_hand(logits, other, scale), abs=1e-4)


def test_what_is_removed_stays_so_and_what_the_other_excludes_is_as_it_was():
    logits = np.float32([[0.0, -np.inf, 0.0]])
    other = log_softmax(np.float32([[0.0, 0.0, -np.inf]]))
    found = guided(logits, other, 2.0)
    assert found[0, 1] == -np.inf
    assert found[0, 2] == log_softmax(logits)[0, 2]


def test_any_array_namespace_will_do():
    logits = np.random.default_rng(0).standard_normal((2, 5)).astype(np.float32)
    strict = guided(*map(array_api_strict.asarray, (logits, log_softmax(logits[::-1]))), 2.0)
    assert np.asarray(strict) == pytest.approx(guided(logits, log_softmax(logits[::-1]), 2.0), rel=1e-5)


def test_columns_are_looked_up_by_id():
    (history,) = histories([0])
    companion = np.random.default_rng(1).standard_normal((1, 6)).astype(np.float32)
    logits = np.random.default_rng(2).standard_normal((1, 6)).astype(np.float32)
    whole = Guidance(2.0, "x").process(logits, Step.dense((history,), 6, companion), ())
    order = np.asarray([[4, 0, 2, 1, 5, 3]])
    shuffled = Guidance(2.0, "x").process(logits[:, order[0]], Step((history,), order, companion), ())
    assert shuffled == pytest.approx(whole[:, order[0]], rel=1e-5)


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline") as decoder:
        yield decoder


@pytest.mark.parametrize("seed", range(3))
def test_every_way_to_decode_gives_the_same(decoder, seed):
    options = {"seed": seed, "max_new_tokens": 20}
    alone = decoder.generate(PROMPT, CHAIN, **options)
    assert alone.ids != decoder.generate(PROMPT, "temperature=0.9", **options).ids
    assert "".join(decoder.stream(PROMPT, CHAIN, **options)) == alone.text
    assert decoder.generate([SECOND, PROMPT], CHAIN, **options)[1].ids == alone.ids
    assert decoder.generate(PROMPT, CHAIN, speculate="lookup", **options).ids == alone.ids
    session = decoder.session(PROMPT, CHAIN, **options)
    while not session.sample().stop:
        pass
    assert session.generated == alone.ids
    session.rewind(len(session.ids) - 4)
    assert session.sample().id == alone.ids[-4]


def test_it_is_the_formula_over_two_prompts(decoder):
    one, two = decoder.session(PROMPT), decoder.session(SECOND)
    ids = decoder.generate(
        PROMPT, f'guidance.scale=2.5, guidance.prompt="{SECOND}", greedy', max_new_tokens=8
    ).ids
    for id in ids:
        expected = by_hand(one.logits()[None], two.logits()[None], 2.5)[0]
        assert id == expected.argmax()
        one.append(id)
        two.append(id)


def test_with_its_own_prompt_it_changes_nothing(decoder):
    plain = decoder.generate(PROMPT, "temperature=0.8", seed=4)
    guided = decoder.generate(
        PROMPT, f'guidance.scale=7, guidance.prompt="{PROMPT}", temperature=0.8', seed=4
    )
    assert guided.ids == plain.ids


def test_neutral_asks_nothing(decoder):
    plain = decoder.generate(PROMPT, "temperature=0.8", seed=4)
    assert decoder.generate(PROMPT, "guidance=1, temperature=0.8", seed=4).ids == plain.ids


def test_a_record_holds(decoder):
    record = Record.from_json(decoder.generate(PROMPT, CHAIN, seed=1, max_new_tokens=12).recipe)
    assert replay(decoder, record).holds
    assert verify(decoder, record).holds


def test_together_with_text_that_is_taken_back(decoder):
    banned = pytest.importorskip(
        "decodekit_banned_phrases", reason="decodekit-banned-phrases is not installed"
    ).BannedPhrases(["a", "th"])
    chain = [CHAIN, banned]
    alone = decoder.generate(PROMPT, chain, seed=2, max_new_tokens=20)
    assert "a" not in alone.text.lower()
    assert "".join(decoder.stream(PROMPT, chain, seed=2, max_new_tokens=20)) == alone.text


def test_what_is_wrong_is_named(decoder):
    with pytest.raises(ParameterError, match="guidance: prompt must be the second prompt"):
        Guidance(2.0)
    with pytest.raises(ParameterError, match=r"scale must be in \[0, 100\], got -1"):
        Guidance(-1, "x")
    with pytest.raises(ParameterError, match="has no second prompt"):
        decoder.beam(PROMPT, CHAIN)
    with pytest.raises(ParameterError, match="guidance and Guidance each have a prompt of their own"):
        decoder.generate(PROMPT, [CHAIN, type("Guidance", (Guidance,), {})(2.0, "x")])
    with pytest.raises(ContextError, match="a companion prompt of .* exceed the context window"):
        long = [5] * (decoder.bundle.context_length - 2)
        decoder.generate(PROMPT, [Guidance(2.0, long)], max_new_tokens=8, ignore_eos=True)
