import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from decodekit.answer import Token
from decodekit.errors import ParameterError
from decodekit.history import History
from decodekit.logprobs import Logprobs, best
from decodekit.openai_logprobs import of_chat, of_text
from decodekit.ops import log_softmax
from decodekit.processors import Step
from decodekit.sampling import Sampler
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.min_p import MinP
from decodekit.strategies.penalties import FrequencyPenalty
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP

LIMIT = {"max_new_tokens": 20}
CHAIN = "temperature=0.7, top_k=12, min_p=0.05"
CHAINS = [
    (),
    (Greedy(),),
    (Temperature(0.0),),
    (Temperature(0.7), TopK(12), TopP(0.9)),
    (FrequencyPenalty(1.0), Temperature(2.0), MinP(0.01), FrequencyPenalty(0.5)),
    (TopK(1), Temperature(0.5), Greedy()),
]


def draw(processors, *, compact=True, seed=0, vocabulary=300):
    rng = np.random.default_rng(seed)
    logits = (rng.standard_normal((1, vocabulary)) * 3).astype(np.float32)
    ids = np.asarray([3, 5, 5, 9])
    step = Step.dense((History(ids, 1, seed),), vocabulary)
    sampler = Sampler(processors, compact)
    return logits, sampler.draw(logits, step, sampler.init(1))


def stages(processors, logits, seed=0):
    """What each processor gives the whole vocabulary, one after the other, nothing dropped between."""
    step = Step.dense((History(np.asarray([3, 5, 5, 9]), 1, seed),), logits.shape[-1])
    given = [logits]
    for processor in processors:
        given.append(processor.process(given[-1], step, processor.init(1)))
    return [log_softmax(g[0].astype(np.float64)) for g in given]


@pytest.mark.parametrize("processors", CHAINS, ids=str)
def test_at_every_stage_they_are_those_of_the_textbook_chain_and_sum_to_one(processors):
    logits, drawn = draw(processors)
    names = [f"stage_{i}" for i in range(len(processors))]
    for at, expected in zip(["raw", *names], stages(processors, logits)):
        own, top = Logprobs(20, at, names)(logits, drawn, int(drawn.tokens[0]))
        assert own == pytest.approx(expected[drawn.tokens[0]], abs=1e-12)
        order = [i for i in np.argsort(-expected, kind="stable")[:20] if expected[i] > -np.inf]
        assert [i for i, _ in top] == order
        assert [value for _, value in top] == pytest.approx(expected[order].tolist(), abs=1e-12)
        alive = np.flatnonzero(expected > -np.inf) if at != "raw" else range(300)
        everyone = [Logprobs(0, at, names)(logits, drawn, int(i))[0] for i in alive]
        assert sum(map(np.exp, everyone)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("processors", CHAINS, ids=str)
def test_final_is_the_last_stage_and_without_a_chain_the_raw_one(processors):
    logits, drawn = draw(processors)
    names = [f"stage_{i}" for i in range(len(processors))]
    last = names[-1] if names else "raw"
    id = int(drawn.tokens[0])
    assert Logprobs(5, "final", names)(logits, drawn, id) == Logprobs(5, last, names)(logits, drawn, id)


@pytest.mark.parametrize("processors", CHAINS[1:], ids=str)
def test_dropping_removed_columns_changes_none(processors):
    names = [f"stage_{i}" for i in range(len(processors))]
    for at in ["raw", "final", *names]:
        answers = []
        for compact in (True, False):
            logits, drawn = draw(processors, compact=compact)
            own, top = Logprobs(7, at, names)(logits, drawn, int(drawn.tokens[0]))
            answers.append([own, *(x for pair in top for x in pair)])
        assert answers[0] == pytest.approx(answers[1], abs=1e-12)


def test_a_name_that_comes_twice_is_its_last_stage():
    processors = (Temperature(2.0), TopK(5), Temperature(0.5))
    logits, drawn = draw(processors)
    look = Logprobs(0, "temperature", ["temperature", "top_k", "temperature"])
    expected = stages(processors, logits)[3][drawn.tokens[0]]
    assert look(logits, drawn, int(drawn.tokens[0]))[0] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("chain", ["greedy", "temperature=0", "top_k=1, temperature=1", None])
def test_a_greedy_choice_is_certain_at_the_end_and_not_before(decoder, chain):
    final = decoder.generate("the cat", chain, logprobs=3, logprobs_at="final", **LIMIT)
    raw = decoder.generate("the cat", chain, logprobs=3, **LIMIT)
    assert {token.logprob for token in final.tokens} == {0.0}
    assert all(token.top == ((token.id, 0.0),) for token in final.tokens)
    assert all(token.logprob < 0 and token.top[0][0] == token.id for token in raw.tokens)
    assert final.ids == raw.ids


def test_they_do_not_change_the_tokens_and_raw_ones_do_not_depend_on_the_chain(decoder):
    plain = decoder.generate("the cat", CHAIN, seed=3, **LIMIT)
    for at in ("raw", "final", "temperature", "top_k", "min_p"):
        looked = decoder.generate("the cat", CHAIN, seed=3, logprobs=4, logprobs_at=at, **LIMIT)
        assert looked.ids == plain.ids and looked.logprobs_at == at
    raw = decoder.generate("the cat", CHAIN, seed=3, logprobs=0, **LIMIT)
    before = (decoder.encode("the cat")[-1], *raw.ids)
    expected = [log_softmax(decoder.model.table[b].astype(np.float64))[i] for b, i in zip(before, raw.ids)]
    assert [token.logprob for token in raw.tokens] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("at", ["raw", "final", "top_k"])
@pytest.mark.parametrize("speculate", ["off", "lookup"])
def test_a_stream_and_a_sample_and_a_guess_have_them_too(decoder, at, speculate):
    options = {"seed": 2, "logprobs": 3, "logprobs_at": at, **LIMIT}
    alone = decoder.generate("the cat", CHAIN, **options)
    assert decoder.stream("the cat", CHAIN, speculate=speculate, **options).complete() == alone
    assert decoder.generate("the cat", CHAIN, n=2, speculate=speculate, **options)[0] == alone


def test_what_a_strategy_before_the_chain_did_has_a_name_too(decoder, tokenizer):
    options = {"seed": 1, "min_new_tokens": 5, "logprobs": 20, **LIMIT}
    held = decoder.generate("the cat", "top_k=20", logprobs_at="MinNewTokens", **options)
    end = tokenizer.id("<|end|>")
    assert all(end not in dict(token.top) for token in held.tokens[:5])
    assert all(sum(np.exp(v) for _, v in token.top) < 1 for token in held.tokens)


def test_plain_data_says_where_they_are_from(decoder):
    looked = decoder.generate("the cat", CHAIN, logprobs=2, logprobs_at="temperature", **LIMIT)
    data = looked.to_json()
    assert data["logprobs_at"] == "temperature" and len(data["tokens"][0]["top"]) == 2
    assert "logprobs_at" not in decoder.generate("the cat", **LIMIT).to_json()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"logprobs": 1, "logprobs_at": "top_p"},
            "logprobs_at must be one of 'raw', 'temperature', 'top_k', 'min_p', 'final' for this chain, "
            "got 'top_p'",
        ),
        ({"logprobs": 1, "logprobs_at": 3}, "got 3"),
        ({"logprobs_at": "final"}, "logprobs_at needs logprobs"),
        ({"logprobs": 21}, r"logprobs must be in \[0, 20\], got 21"),
        ({"logprobs": True}, "logprobs must be a whole number"),
        ({"logprobs": 1.0}, "logprobs must be a whole number"),
    ],
)
def test_what_cannot_be_told_is_refused(decoder, options, message):
    with pytest.raises(ParameterError, match=message):
        decoder.generate("the cat", CHAIN, **options, **LIMIT)


def test_a_stage_that_comes_twice_is_named_once_in_the_error():
    with pytest.raises(ParameterError, match="one of 'raw', 'temperature', 'final' for"):
        Logprobs(0, "x", ["temperature", "temperature"])


@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.sampled_from([-np.inf, -3.0, -2.0, -1.0, 0.0])),
    st.integers(0, 70),
)
def test_the_best_are_those_of_a_stable_sort(logp, top):
    order = [int(i) for i in np.argsort(-logp, kind="stable")[:top] if logp[i] > -np.inf]
    assert best(logp, top) == tuple((i, logp[i]) for i in order)


def test_the_command_line_has_them_at_a_stage(run):
    words = ("generate", "tagline", "A slogan for a bakery.", "-p", "temperature=0.5", "-p", "top_k=4")
    words += ("--max-new-tokens", "3", "--seed", "1", "--logprobs", "4")
    status, out, _ = run(*words, "--logprobs-at", "top_k", "--json")
    data = json.loads(out)
    assert status == 0 and data["logprobs_at"] == "top_k"
    for token in data["tokens"]:
        assert sum(np.exp(value) for _, value in token["top"]) == pytest.approx(1, abs=1e-9)
    assert "logprob, top_k" in run(*words, "--logprobs-at", "top_k")[1]
    assert "logprob, raw" in run(*words)[1]
    status, _, err = run(*words, "--logprobs-at", "top_p")
    assert status == 2 and "logprobs_at must be one of 'raw', 'temperature', 'top_k', 'final'" in err
    status, _, err = run(*words[:-2], "--logprobs-at", "final")
    assert status == 2 and "logprobs_at needs logprobs" in err


def test_alternatives_that_are_parts_of_characters_are_told_apart(tokenizer):
    """In the text API they are the keys of an object, where two of one name would be one."""
    first, second, *_ = tokenizer.encode("猫")
    token = Token(first, "", None, logprob=-0.1, top=((first, -0.1), (second, -2.5)))
    (top,) = of_text([token], tokenizer)["top_logprobs"]
    assert top == {"<0xE7><0x8C>": -0.1, "<0xAB>": -2.5}
    (said,) = of_chat([token], tokenizer)
    assert [other["bytes"] for other in said["top_logprobs"]] == [[0xE7, 0x8C], [0xAB]]
