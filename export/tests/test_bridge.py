"""Processors and criteria of transformers as strategies: what they do alone, they do wrapped."""

import dataclasses

import numpy as np
import pytest
import torch
import transformers
from decodekit_transformers import REFUSED, Wrapped, WrappedCriterion
from transformers.generation import logits_process as processors
from transformers.generation import stopping_criteria as criteria
from transformers.generation.configuration_utils import SynthIDTextWatermarkingConfig

import decodekit
from decodekit.chain import parse
from decodekit.errors import ParameterError, StrategyError
from decodekit.presets import chain_from
from decodekit.processors import Step
from decodekit.progress import Progress
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP
from decodekit.testing import check_logits_processor, histories

V = 257
ROWS = ([1, 2, 3, 1, 2], [4, 4, 9, 4], [7])
PROMPT = "A bakery"
MAKE = {
    "temperature": lambda: processors.TemperatureLogitsWarper(0.7),
    "top_k": lambda: processors.TopKLogitsWarper(5),
    "top_p": lambda: processors.TopPLogitsWarper(0.8),
    "min_p": lambda: processors.MinPLogitsWarper(0.1),
    "typical": lambda: processors.TypicalLogitsWarper(0.5),
    "top_h": lambda: processors.TopHLogitsWarper(0.4),
    "epsilon": lambda: processors.EpsilonLogitsWarper(0.01),
    "eta": lambda: processors.EtaLogitsWarper(0.01),
    "repetition": lambda: processors.RepetitionPenaltyLogitsProcessor(1.5),
    "encoder repetition": lambda: processors.EncoderRepetitionPenaltyLogitsProcessor(
        1.5, torch.tensor([[4]])
    ),
    "no repeat": lambda: processors.NoRepeatNGramLogitsProcessor(2),
    "sequence bias": lambda: processors.SequenceBiasLogitsProcessor([[[1, 2, 9], 5.0], [[8], -3.0]]),
    "bad words": lambda: processors.NoBadWordsLogitsProcessor([[3, 4], [6]]),
    "allowed": lambda: processors.PrefixConstrainedLogitsProcessor(lambda _, ids: [*range(9)], 1),
    "suppressed": lambda: processors.SuppressTokensLogitsProcessor([0, 2]),
    "suppressed at begin": lambda: processors.SuppressTokensAtBeginLogitsProcessor([0, 2], 1),
    "at least": lambda: processors.MinNewTokensLengthLogitsProcessor(1, 3, [2, 5]),
    "length": lambda: processors.ExponentialDecayLengthPenalty((1, 1.5), [2], 1),
    "forced end": lambda: processors.ForcedEOSTokenLogitsProcessor(6, 2),
    "normalised": lambda: processors.LogitNormalization(),
    "watermark": lambda: processors.WatermarkLogitsProcessor(V, "cpu"),
    "several": lambda: processors.LogitsProcessorList(
        [processors.TemperatureLogitsWarper(0.7), processors.TopPLogitsWarper(0.8)]
    ),
}


def random_logits():
    return (np.random.default_rng(1).standard_normal((len(ROWS), V)) * 3).astype(np.float32)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_wrapped_it_does_what_it_does_alone(make):
    logits = random_logits()
    step = Step.dense(histories(*map(list, ROWS)), V)
    wrapped = Wrapped(make()).process(logits, step, ())
    for row, ids, found in zip(logits, ROWS, wrapped, strict=True):
        alone = make()(torch.tensor([ids]), torch.from_numpy(row[None].copy()))
        assert np.array_equal(found, alone[0].numpy())
    assert not np.array_equal(wrapped, logits)


@pytest.mark.parametrize("name", ["repetition", "no repeat", "bad words", "watermark", "length", "several"])
def test_wrapped_it_keeps_the_contract(name):
    check_logits_processor(Wrapped(MAKE[name](), vocabulary=V), vocab=V)


def test_columns_that_are_gone_are_minus_infinity_and_columns_may_stand_in_any_order():
    logits = random_logits()
    order = np.random.default_rng(2).permutation(V)[:60]
    rows = histories(*map(list, ROWS))
    full = np.full_like(logits, -np.inf)
    full[:, order] = logits[:, order]
    for make in (MAKE["top_p"], MAKE["sequence bias"], MAKE["watermark"]):
        wrapped = Wrapped(make(), vocabulary=V)
        some = wrapped.process(logits[:, order], Step(rows, np.broadcast_to(order, (3, 60))), ())
        assert np.array_equal(some, wrapped.process(full, Step.dense(rows, V), ())[:, order])


def test_what_was_removed_stays_removed():
    logits = random_logits()
    logits[:, 2] = -np.inf
    found = Wrapped(lambda ids, scores: scores.nan_to_num(neginf=5.0)).process(
        logits, Step.dense(histories(*map(list, ROWS)), V), ()
    )
    assert (found[:, 2] == -np.inf).all() and np.isfinite(np.delete(found, 2, axis=-1)).all()


def test_rows_of_unequal_width_repeat_an_id_in_a_removed_column():
    """That is how the sampler pads the row that has fewer candidates left."""
    logits = np.asarray([[1.0, 2.0, 3.0], [4.0, -np.inf, -np.inf]], np.float32)
    step = Step(histories([1], [2]), np.asarray([[3, 5, 7], [3, 3, 3]]))
    found = Wrapped(processors.TemperatureLogitsWarper(0.5)).process(logits, step, ())
    assert np.array_equal(found, logits * 2)


def test_behind_a_truncation_rows_of_unequal_width_are_as_they_are_alone():
    logits = random_logits() * np.asarray([[0.1], [0.4], [5.0]], np.float32)
    sampler = decodekit.Sampler((TopP(0.5), Wrapped(MAKE["repetition"](), vocabulary=V)))
    _, together, shaped = sampler.shape(logits, Step.dense(histories(*map(list, ROWS)), V), ((), ()))
    assert len(set(np.isfinite(together).sum(axis=-1))) == 3
    for i, ids in enumerate(ROWS):
        _, alone, step = sampler.shape(logits[i : i + 1], Step.dense(histories(list(ids)), V), ((), ()))
        live = np.isfinite(together[i])
        assert dict(zip(shaped.ids[i][live], together[i][live])) == dict(
            zip(step.ids[0][np.isfinite(alone[0])], alone[0][np.isfinite(alone[0])])
        )


def test_the_processor_may_write_to_what_it_is_given():
    logits = random_logits()
    before = logits.copy()
    Wrapped(lambda ids, scores: scores.mul_(2)).process(logits, Step.dense(histories([1], [2], [3]), V), ())
    assert np.array_equal(logits, before)


def test_half_precision_comes_back_as_it_was():
    logits = random_logits().astype(np.float16)
    found = Wrapped(MAKE["top_k"]()).process(logits, Step.dense(histories([1], [2], [3]), V), ())
    assert found.dtype == np.float16 and (np.isfinite(found).sum(axis=-1) >= 5).all()


def test_a_token_beyond_the_vocabulary_is_an_error():
    wrapped = Wrapped(MAKE["top_k"](), vocabulary=V - 1)
    with pytest.raises(
        ParameterError, match=r"Wrapped\(TopKLogitsWarper\): token 256 is not in a vocabulary"
    ):
        wrapped.process(random_logits(), Step.dense(histories([1], [2], [3]), V), ())


@pytest.mark.parametrize("answer", [lambda ids, s: None, lambda ids, s: s[0], lambda ids, s: s.numpy()])
def test_an_answer_of_another_shape_is_an_error(answer):
    with pytest.raises(StrategyError, match=r"must answer scores \[1, 257\], got"):
        Wrapped(answer).process(random_logits(), Step.dense(histories([1], [2], [3]), V), ())


@pytest.mark.parametrize("wrong", [3, "top_k", processors.TopKLogitsWarper])
def test_what_cannot_be_called_is_refused(wrong):
    with pytest.raises(ParameterError, match="Wrapped takes a LogitsProcessor"):
        Wrapped(wrong)


def test_what_keeps_state_between_calls_is_refused_also_in_a_list_and_in_a_subclass():
    class Own(processors.SynthIDTextWatermarkLogitsProcessor):
        pass

    config = SynthIDTextWatermarkingConfig(ngram_len=3, keys=[1, 2])
    for marking in (config.construct_processor(V, "cpu"), Own(**config.to_dict(), device="cpu")):
        with pytest.raises(
            ParameterError, match="SynthIDTextWatermarkLogitsProcessor cannot be wrapped: it counts"
        ):
            Wrapped(processors.LogitsProcessorList([MAKE["top_k"](), marking]))
    with pytest.raises(ParameterError, match="made with num_beams=1, got 4"):
        Wrapped(processors.PrefixConstrainedLogitsProcessor(lambda *_: [1], 4))
    with pytest.raises(ParameterError, match="use max_time"):
        WrappedCriterion(criteria.MaxTimeCriteria(1.0))


def test_every_refused_class_is_one_of_transformers():
    for name in REFUSED:
        assert hasattr(processors, name) or hasattr(criteria, name)


@pytest.fixture(scope="module")
def decoder():
    return decodekit.load("tagline")


def ids(completion):
    return [token.id for token in completion.tokens]


def answers(decoder, chain, **options):
    return [ids(c) for c in decoder.generate([PROMPT, "A"], chain, seed=3, n=3, max_new_tokens=20, **options)]


def test_through_a_decoder_it_gives_the_tokens_of_the_strategy_built_in(decoder):
    wrapped = [Wrapped(MAKE["temperature"]()), Wrapped(MAKE["top_k"]())]
    assert answers(decoder, wrapped) == answers(decoder, [Temperature(0.7), TopK(5)])
    assert answers(decoder, wrapped) != answers(decoder, [Temperature(0.7)])


def test_next_to_strategies_built_in_it_sees_what_they_left(decoder):
    chain = ["temperature=0.7", Wrapped(MAKE["repetition"]()), "top_k=5"]
    plain = ["temperature=0.7", "repetition_penalty=1.5", "top_k=5"]
    assert answers(decoder, chain) == answers(decoder, plain)
    behind = ["top_k=5", Wrapped(MAKE["repetition"]()), "temperature=0.7"]
    assert answers(decoder, behind) == answers(
        decoder, ["top_k=5", "repetition_penalty=1.5", "temperature=0.7"]
    )


def test_guessing_ahead_changes_no_token(decoder):
    chain = [Wrapped(MAKE["no repeat"]()), Wrapped(MAKE["top_p"]())]
    assert answers(decoder, chain, speculate="lookup") == answers(decoder, chain)


def test_what_it_raises_ends_the_request_with_its_name(decoder):
    def broken(ids, scores):
        raise RuntimeError("no")

    with pytest.raises(StrategyError, match=r"Wrapped\(broken\).* raised RuntimeError\('no'\) at token 0"):
        decoder.generate(PROMPT, [Wrapped(broken)], max_new_tokens=2)


def progress(*ids, asked=1):
    (history,) = histories(list(ids), asked=asked)
    return Progress(history, "abc", 2)


def test_a_criterion_stops_where_it_would_stop():
    ends = WrappedCriterion(criteria.EosTokenCriteria([5, 6]))
    assert ends.check(progress(5, 1, 2)) is None
    assert ends.check(progress(1, 2, 6)) == decodekit.Stop("stop", by="EosTokenCriteria")
    both = WrappedCriterion(criteria.StoppingCriteriaList([criteria.MaxLengthCriteria(4), ends.criterion]))
    assert both.check(progress(1, 2, 3)) is None
    assert both.check(progress(1, 2, 3, 4)) == decodekit.Stop("length", by="MaxLengthCriteria")
    assert both.check(progress(1, 2, 5)).by == "EosTokenCriteria"


def test_a_function_is_a_criterion_too_and_none_never_stops():
    assert WrappedCriterion(lambda ids, scores: ids.shape[1] > 2).check(progress(1, 2, 3)).reason == "stop"
    assert WrappedCriterion(criteria.StoppingCriteriaList()).check(progress(1, 2, 3)) is None


def test_stop_strings_of_transformers_through_a_decoder(decoder):
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(decoder.bundle.path / "tokenizer.json")
    )
    whole = decoder.generate(PROMPT, "greedy", max_new_tokens=30)
    word = whole.text.split()[2]
    stopped = decoder.generate(
        PROMPT,
        "greedy",
        max_new_tokens=30,
        criteria=[WrappedCriterion(criteria.StopStringCriteria(tokenizer, [word]))],
    )
    own = decoder.generate(PROMPT, "greedy", max_new_tokens=30, stop=word)
    assert stopped.finish_reason == own.finish_reason == "stop"
    assert ids(stopped) == ids(own) == ids(whole)[: len(own.tokens)]
    assert own.text + word in stopped.text


CONFIGS = {
    "sampling": {"do_sample": True, "temperature": 0.6, "top_p": 0.9},
    "all truncations": {
        **{"do_sample": True, "temperature": 1.5, "top_k": 90, "top_p": 0.97, "min_p": 0.001},
        **{"typical_p": 0.95, "epsilon_cutoff": 0.001, "eta_cutoff": 0.002},
    },
    "no top_k": {"do_sample": True, "top_k": 0, "min_p": 0.05},
    "penalties": {
        "do_sample": True,
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "temperature": 0.8,
    },
    "lists": {
        **{"do_sample": True, "bad_words_ids": [[3], [1, 9], [5]], "suppress_tokens": [20, 30]},
        **{"begin_suppress_tokens": [7], "sequence_bias": [[[2, 40], 6.0], [[41], -6.0]]},
        **{"exponential_decay_length_penalty": [1, 1.5], "eos_token_id": [5]},
    },
    "greedy": {"repetition_penalty": 1.3, "temperature": 0.1},
}


def by_transformers(config, ids, prompt, logits):
    """Scores after the processors that `generate` would make, float32 [V]."""
    config = transformers.GenerationConfig(**config)
    for name, value in transformers.GenerationConfig._get_default_generation_params().items():
        if getattr(config, name, None) is None:
            setattr(config, name, value)
    config._eos_token_tensor = torch.tensor(config.eos_token_id or [5])
    model = transformers.GenerationMixin()
    model.config = transformers.PretrainedConfig()
    made = model._get_logits_processor(config, input_ids_seq_length=len(prompt), device="cpu")
    return made(torch.tensor([ids]), torch.from_numpy(logits[None].copy()))[0].numpy()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_generation_config_means_the_same_as_a_chain(config):
    preset = chain_from({"eos_token_id": [5], **config})
    links = parse(preset.chain, decodekit.load_plugins().logits_processors, decodekit.LogitsProcessor)
    strategies = [link.strategy for link in links]
    ends = {"ends": (5,)}  # as one that is bound to a tokenizer would have
    sampler = decodekit.Sampler(
        tuple(dataclasses.replace(s, **ends) if hasattr(s, "ends") else s for s in strategies)
    )
    for seed in range(20):
        logits = (np.random.default_rng(seed).standard_normal(V) * 2).astype(np.float32)
        for ids, asked in (([1, 2, 3, 1, 2], 2), ([4, 4, 9, 4], 4), ([1, 8, 1], 1)):
            expected = by_transformers(config, ids, ids[:asked], logits)
            step = Step.dense(histories(ids, asked=asked), V)
            _, left, shaped = sampler.shape(logits[None], step, sampler.init(1))
            found = np.full(V, -np.inf, np.float32)
            found[shaped.ids[0]] = left[0]
            if preset.chain[-1] == "greedy":
                assert found.argmax() == expected.argmax() and np.isfinite(found).sum() == 1
            else:
                assert np.allclose(found, expected, rtol=1e-5, atol=1e-5)
