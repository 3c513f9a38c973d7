import math

import numpy as np
import pytest
from decodekit_bias import (
    AllowedTokens,
    BadWords,
    ForcedPrefix,
    LengthDecay,
    SequenceBias,
    SuppressAtBegin,
)
from decodekit_bias.sequences import pushed
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit import Sampler
from decodekit.errors import ContractError, ParameterError
from decodekit.processors import Step
from decodekit.strategies.top_k import TopK
from decodekit.testing import check_logits_processor, histories

IDS = st.lists(st.integers(0, 3), min_size=1, max_size=8)
SEQUENCES = st.dictionaries(
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(tuple), st.floats(-5, 5), max_size=5
)
LOGITS = st.lists(st.one_of(st.floats(-20, 20, width=32), st.just(-math.inf)), min_size=6, max_size=6)
COLUMNS = st.one_of(st.just([0, 1, 2, 3, 4, 5]), st.permutations([0, 1, 2, 3, 4, 9]))


def process(processor, ids, *, asked=1, columns=range(6), logits=None):
    (history,) = histories(ids, asked=asked)
    columns = np.asarray([*columns])
    logits = np.zeros((1, len(columns)), np.float32) if logits is None else np.float32([logits])
    return processor.process(logits, Step((history,), columns[None]), ())[0]


def removed(out):
    return np.flatnonzero(out == -np.inf).tolist()


# every strategy beside a plain loop over the candidates


def by_loop(processor, logits, columns, ids, asked):
    """What the strategy does to each candidate, by its definition."""
    generated, out = len(ids) - asked, []
    for logit, v in zip(logits, columns, strict=True):
        if isinstance(processor, SequenceBias):
            for entry in processor.sequences:
                *before, last = entry["tokens"]
                if v == last and ids[len(ids) - len(before) :] == before and len(before) <= len(ids):
                    logit += entry["bias"]
        elif isinstance(processor, BadWords):
            if any([*ids, v][-len(word) :] == list(word) for word in processor.words):
                logit = -math.inf
        elif isinstance(processor, AllowedTokens):
            logit = logit if v in processor.ids else -math.inf
        elif isinstance(processor, SuppressAtBegin):
            logit = -math.inf if generated == 0 and v in processor.ids else logit
        elif isinstance(processor, ForcedPrefix):
            forced = processor.prefix[generated : generated + 1]
            logit = -math.inf if forced and v != forced[0] else logit
        elif v in processor.ends and generated > processor.start and math.isfinite(logit):
            power = min(1e6, processor.factor ** (generated - processor.start))
            logit += abs(logit) * (power - 1)
        out.append(logit)
    return out


@pytest.mark.parametrize(
    "make",
    [
        lambda sequences: SequenceBias([{"tokens": list(s), "bias": b} for s, b in sequences.items()]),
        lambda sequences: BadWords([list(s) for s in sequences]),
        lambda sequences: AllowedTokens(list(next(iter(sequences), (2,)))),
        lambda sequences: SuppressAtBegin(list(next(iter(sequences), (2,)))),
        lambda sequences: ForcedPrefix(list(next(iter(sequences), ()))),
        lambda sequences: LengthDecay(len(sequences), 1.3, ends=[1, 4]),
        lambda sequences: LengthDecay(1, 0.5, ends=[0, 2, 9]),
    ],
)
@settings(max_examples=80, deadline=None)
@given(sequences=SEQUENCES, ids=IDS, asked=st.integers(1, 8), columns=COLUMNS, logits=LOGITS)
def test_every_strategy_is_the_plain_loop(make, sequences, ids, asked, columns, logits):
    processor, asked = make(sequences), min(asked, len(ids))
    expected = by_loop(processor, logits, columns, ids, asked)
    assert process(processor, ids, asked=asked, columns=columns, logits=logits) == pytest.approx(
        expected, rel=1e-5, abs=1e-5
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 3), max_size=8), SEQUENCES)
def test_pushed_by_hand(history, sequences):
    expected = {}
    for (*before, last), bias in sequences.items():
        if history[len(history) - len(before) :] == before and len(before) <= len(history):
            expected[last] = expected.get(last, 0.0) + bias
    assert pushed(np.asarray(history, np.int64), sequences) == pytest.approx(expected)


# each by hand


def test_a_sequence_is_pushed_where_it_was_begun():
    bias = SequenceBias(
        [{"tokens": [1, 2], "bias": 3.0}, {"tokens": [2], "bias": 0.5}, {"tokens": [0, 1, 4], "bias": -2}]
    )
    assert process(bias, [0, 1]).tolist() == [0, 0, 3.5, 0, -2, 0]
    assert process(bias, [1, 0]).tolist() == [0, 0, 0.5, 0, 0, 0]


def test_a_word_is_not_completed():
    words = BadWords([[1, 2], [5]])
    assert removed(process(words, [0, 1])) == [2, 5]
    assert removed(process(words, [1, 0])) == [5]


def test_only_some_are_allowed():
    assert removed(process(AllowedTokens([1, 3]), [0])) == [0, 2, 4, 5]
    assert removed(process(AllowedTokens([1, 3]), [0], columns=[3, 2])) == [1]


def test_some_are_not_the_first():
    assert removed(process(SuppressAtBegin([2]), [0, 1], asked=2)) == [2]
    assert removed(process(SuppressAtBegin([2]), [0, 1], asked=1)) == []


def test_a_prefix_is_said_first():
    forced = ForcedPrefix([3, 1])
    assert removed(process(forced, [0, 0], asked=2)) == [0, 1, 2, 4, 5]
    assert removed(process(forced, [0, 3], asked=1)) == [0, 2, 3, 4, 5]
    assert removed(process(forced, [0, 3, 1], asked=1)) == []


@pytest.mark.parametrize(("generated", "gain"), [(2, 0.0), (3, 0.5), (4, 1.25)])
def test_the_end_grows_more_likely(generated, gain):
    decay = LengthDecay(2, 1.5, ends=[1])
    out = process(decay, [0] * (1 + generated), logits=[1.0, -2.0, 1.0, 1.0, 1.0, 1.0])
    assert out.tolist() == pytest.approx([1.0, -2.0 + 2 * gain, 1.0, 1.0, 1.0, 1.0])


def test_nothing_overflows_and_what_is_removed_stays_so():
    out = process(LengthDecay(0, 100.0, ends=[0, 1]), [0] * 4000, logits=[-np.inf, 30.0, 1, 1, 1, 1])
    assert out[0] == -np.inf and np.isfinite(out[1:]).all() and out[1] > 1e6


def test_rows_are_at_places_of_their_own():
    rows = histories([0, 1], [0, 3, 1], [0], asked=1)
    logits, step = np.zeros((3, 6), np.float32), Step.dense(rows, 6)
    for processor, gone in [
        (ForcedPrefix([3, 1]), [[0, 2, 3, 4, 5], [], [0, 1, 2, 4, 5]]),
        (SuppressAtBegin([2, 4]), [[], [], [2, 4]]),
        (BadWords([[1, 5], [3, 1, 0], [4]]), [[4, 5], [0, 4, 5], [4]]),
    ]:
        assert [removed(row) for row in processor.process(logits, step, ())] == gone


def test_what_a_truncation_removed_stays_removed():
    logits = np.asarray([[9.0] * 3 + [0.0] * 37], np.float32)
    step = Step.dense(histories([1]), 40)
    for processor, left in [
        (SequenceBias([{"tokens": [20], "bias": 100}]), [0, 1, 2]),
        (AllowedTokens([2, 20]), [2]),
        (SuppressAtBegin([0, 20]), [1, 2]),
    ]:
        sampler = Sampler((TopK(3), processor))
        stage = sampler.draw(logits, step, sampler.init(1)).stages[1]
        assert stage.ids[0][np.isfinite(stage.logits[0])].tolist() == left


@pytest.mark.parametrize(
    "processor",
    [
        SequenceBias([{"tokens": [7, 9], "bias": 2.0}]),
        BadWords([[3], [7, 8]]),
        AllowedTokens([1, 2, 3]),
        SuppressAtBegin([4]),
        ForcedPrefix([3, 4, 6, 7]),
        LengthDecay(0, 1.2, ends=[9]),
    ],
)
def test_keeps_the_contract(processor):
    check_logits_processor(processor)


@pytest.mark.parametrize(
    "processor",
    [SequenceBias([]), BadWords([]), SuppressAtBegin([]), ForcedPrefix(""), LengthDecay(0, 1.0, ends=[1])],
)
def test_neutral_is_the_input(processor):
    logits = np.zeros((1, 6), np.float32)
    (history,) = histories([0, 1, 0])
    assert processor.process(logits, Step.dense((history,), 6), ()) is logits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SequenceBias([{"tokens": [1]}]), r"sequences\[0\] must be"),
        (
            lambda: SequenceBias([{"tokens": [1], "bias": 101}]),
            r"sequences\[0\].bias must be in \[-100, 100\]",
        ),
        (lambda: SequenceBias([{"tokens": [], "bias": 1}]), r"sequences\[0\] is empty"),
        (
            lambda: SequenceBias([{"text": "", "bias": 1}]),
            r"sequences\[0\] is empty; give at least one character",
        ),
        (lambda: BadWords("word"), "words is a list of at most 1000"),
        (lambda: BadWords([["a"]]), r"words\[0\] must be token ids"),
        (lambda: AllowedTokens([]), "ids is empty, so nothing could be said"),
        (lambda: AllowedTokens(["a"]), "ids must be token ids"),
        (lambda: SuppressAtBegin([-1]), "ids must be token ids"),
        (lambda: ForcedPrefix([1.5]), "prefix must be token ids"),
        (lambda: LengthDecay(-1), r"start must be in \[0, inf\), got -1"),
        (lambda: LengthDecay(1, 0), r"factor must be in \(0, 100\], got 0"),
    ],
)
def test_parameters_have_a_domain(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    "processor",
    [SequenceBias([{"text": "no", "bias": 1}]), BadWords(["no"]), ForcedPrefix("no"), LengthDecay(0, 2.0)],
    ids=repr,
)
def test_a_text_without_a_tokenizer_is_refused(processor):
    with pytest.raises(ParameterError, match=r"without a tokenizer 'no' has no tokens|no end token is known"):
        process(processor, [0, 1])


class Silent:
    """A tokenizer that spells nothing and ends nothing."""

    size, stop_ids = 6, frozenset()

    def encode_plain(self, text):
        return []


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (SequenceBias([{"text": "no", "bias": 1}]), "sequence_bias: no token spells 'no'; give token ids"),
        (BadWords(["no"]), "bad_words: no token spells 'no'"),
        (ForcedPrefix("no"), "forced_prefix: no token spells 'no'"),
        (LengthDecay(0, 2.0), "this model has no stop token; name some with length_decay.ends"),
        (LengthDecay(0, 2.0, ends=[6]), r"length_decay: token ids are in \[0, 6\), got 6"),
    ],
    ids=repr,
)
def test_what_cannot_be_spelt_is_refused(processor, message):
    with pytest.raises(ParameterError, match=message):
        processor.bind(Silent())


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline") as decoder:
        yield decoder


def test_a_prefix_is_read_at_once_by_speculation(decoder):
    chain = 'forced_prefix="Fresh from the oven", temperature=0.8'
    plain = decoder.generate("A bakery", chain, seed=2)
    assert plain.text.startswith("Fresh from the oven")
    found = decoder.generate("A bakery", chain, seed=2, speculate="lookup")
    assert found.ids == plain.ids


def test_a_word_is_banned_as_it_is_spelt(decoder):
    plain = decoder.generate("A bakery", "greedy")
    word = plain.text.split()[1].strip(".,!")
    other = decoder.generate("A bakery", [f'bad_words=["{word}"]', "greedy"])
    assert other.ids != plain.ids


def test_an_answer_ends_sooner(decoder):
    options = {"seed": 3, "max_new_tokens": 64}
    plain = decoder.generate("A bakery", "temperature=2", **options)
    hurried = decoder.generate(
        "A bakery", "length_decay.start=2, length_decay.factor=3, temperature=2", **options
    )
    assert len(hurried.ids) < len(plain.ids)


def test_what_the_vocabulary_does_not_have_is_refused(decoder):
    for chain in (
        "allowed_tokens=[99999]",
        "bad_words=[[99999]]",
        "forced_prefix=[99999]",
        "suppress_at_begin=[99999]",
    ):
        with pytest.raises(ParameterError, match=r"token ids are in \[0, \d+\), got 99999"):
            decoder.generate("A bakery", chain)


def test_nothing_left_is_an_error_that_names_who(decoder):
    with pytest.raises(ContractError, match="no candidate left after"):
        decoder.generate("A bakery", "allowed_tokens=[5], bad_words=[[5]]")


def test_bound_to_a_vocabulary_a_strategy_is_still_itself(decoder):
    tokenizer = decoder.tokenizer
    for processor in (BadWords(["very", "no"]), SequenceBias([{"text": " so", "bias": 1.5}])):
        bound = processor.bind(tokenizer)
        assert bound == processor and repr(bound) == repr(processor) and bound is not processor
        check_logits_processor(bound, vocab=tokenizer.size)
    ids = tokenizer.encode_plain(" so")
    assert SequenceBias([{"text": " so", "bias": 1.5}]).bind(tokenizer)._biases == {tuple(ids): 1.5}


def test_a_word_is_banned_behind_a_space_too(decoder):
    tokenizer = decoder.tokenizer
    banned = BadWords(["so"]).bind(tokenizer)._banned
    assert banned.keys() == {tuple(tokenizer.encode_plain("so")), tuple(tokenizer.encode_plain(" so"))}
