import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import decodekit
from decodekit import LogitsProcessor, Stop, StoppingCriterion, record
from decodekit.decoder import Decoder
from decodekit.errors import DecodekitError, RecordError
from decodekit.history import History
from decodekit.noise import gumbel, keys
from decodekit.plugins import Plugin
from decodekit.processors import Step
from decodekit.record import Entry, Record
from decodekit.replay import replay
from decodekit.verdict import Verdict
from decodekit.verify import verify

FIXTURES = Path(__file__).parent / "fixtures"
PROMPT = "Once upon a time"
SAMPLED = "temperature=0.9, top_p=0.95"
CHAINS = [
    None,
    "temperature=1",
    SAMPLED,
    "top_k=20, temperature=1.3, min_p=0.02",
    'repetition_penalty=1.2, logit_bias={"5": 2.5, "77": -4}, temperature=0.7',
    "frequency_penalty=0.5, presence_penalty=0.4, top_p=0.8, greedy",
    "temperature=0.1",
]
BOTH = [replay, verify]


@pytest.fixture(scope="module", params=["in_place", "concatenating"])
def tiny(request):
    return decodekit.load(FIXTURES / request.param, plugins=decodekit.load_plugins(only=()))


@pytest.fixture(scope="module")
def in_place():
    return decodekit.load(FIXTURES / "in_place", plugins=decodekit.load_plugins(only=()))


@pytest.fixture(scope="module")
def answered(in_place):
    """A sampled record that ends by length; nothing in it is close to a tie."""
    return in_place.generate(PROMPT, SAMPLED, seed=4, max_new_tokens=30).record()


def again(one):
    """A record as another program reads it."""
    return Record.from_json(json.loads(json.dumps(one.to_json(), allow_nan=False)))


def option(one, place, **options):
    """The record with other options of one strategy of its chain."""
    chain = list(one.chain)
    chain[place] = replace(chain[place], options={**chain[place].options, **options})
    return replace(one, chain=tuple(chain))


# a record that was left alone


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_a_record_read_back_decodes_to_the_same_and_is_confirmed(tiny, chain, seed):
    completion = tiny.generate(PROMPT, chain, seed=seed, max_new_tokens=40)
    one = completion.record()
    assert again(one) == one and one.to_json() == completion.recipe
    assert replay(tiny, again(one)).outcome == "equal"
    found = verify(tiny, again(one))
    assert found.holds and found.gap is None and found.changed == ()


def test_samples_streams_and_answers_among_neighbours_have_records_that_hold(tiny):
    prompts = [PROMPT, "A dog", "x" * 140]
    options = {"seed": 7, "max_new_tokens": 25, "ignore_eos": True}
    together = tiny.generate(prompts, SAMPLED, n=3, **options)
    streamed = tiny.stream(PROMPT, SAMPLED, sample=2, **options).complete()
    assert streamed.record().ids == together[2].record().ids
    for completion in (*together, streamed):
        for check in BOTH:
            assert check(tiny, again(completion.record())).holds


@pytest.mark.parametrize(
    "options",
    [
        {"max_new_tokens": 1},
        {"stop": ["e", "zq"], "max_new_tokens": 90},
        {"stop": "e", "min_new_tokens": 30, "max_new_tokens": 90},
        {"stop_token_ids": [78, 66], "max_new_tokens": 90},
        {"stop_token_ids": [78, 66], "min_new_tokens": 40, "max_new_tokens": 90},
        {"ignore_eos": True, "max_new_tokens": 50},
        {"criteria": "max_new_tokens=9"},
        {"criteria": ["repetition_loop.times=2, repetition_loop.least=2", "max_new_tokens=60"]},
        {"logprobs": 3, "logprobs_at": "final", "max_new_tokens": 20},
        {"speculate": "lookup", "max_new_tokens": 60},
        {"max_time": 1000.0, "max_new_tokens": 20},
        {"tenant": "a", "max_new_tokens": 20},
    ],
    ids=str,
)
def test_whatever_ends_an_answer_is_in_its_record(tiny, options):
    for seed in range(2):
        one = again(tiny.generate("abab" * 5, "temperature=0.9", seed=seed, **options).record())
        for check in BOTH:
            found = check(tiny, one)
            assert found.holds, (seed, found)


def test_an_answer_that_fills_the_context_has_a_record_that_holds(in_place):
    one = in_place.generate("a" * 450, "temperature=0.9", seed=1, ignore_eos=True).record()
    assert len(one.ids) == 150
    for check in BOTH:
        assert check(in_place, again(one)).holds


def test_numbers_of_another_kernel_are_told_from_equal_ones(in_place):
    completion = in_place.generate(PROMPT, SAMPLED, seed=1, max_new_tokens=20)
    one = completion.record()
    assert replay(in_place, one) == Verdict("equal", "20 tokens and their numbers are the record's")
    logits = list(one.logits)
    logits[7] = record.shortest(logits[7] * (1 + 1e-6))
    found = replay(in_place, replace(one, logits=tuple(logits)))
    assert (found.outcome, found.step, found.holds) == ("rounded", 7, True)
    assert "as those of another kernel, batch, version or number of threads do" in found.why


def test_a_record_made_with_one_cache_kind_holds_with_the_other(in_place):
    other = decodekit.load(FIXTURES / "concatenating", plugins=in_place.plugins)
    one = in_place.generate(PROMPT, SAMPLED, seed=3, max_new_tokens=30).record()
    for check in BOTH:
        found = check(other, one)
        assert found.holds
        assert found.changed == (f"bundle sha256: {in_place.bundle.sha256} -> {other.bundle.sha256}",)


@pytest.mark.parametrize("check", BOTH)
def test_an_answer_that_its_time_ended_may_be_of_any_length(in_place, check):
    options = {"seed": 3, "max_new_tokens": 500, "max_time": 0.05, "ignore_eos": True}
    one = in_place.generate(PROMPT, SAMPLED, **options).record()
    assert one.finish_reason == "time" and 0 < len(one.ids) < 500
    assert check(in_place, one).holds
    shorter = {name: getattr(one, name)[:-1] for name in ("ids", "logits", "scores", "widths")}
    assert check(in_place, replace(one, **shorter)).holds
    nothing = dict.fromkeys(("ids", "logits", "scores", "widths"), ())
    assert check(in_place, replace(one, **nothing)).outcome == "equal"
    forged = replace(one, ids=(*one.ids[:-1], (one.ids[-1] + 1) % 256))
    assert check(in_place, forged).step == len(one.ids) - 1


@pytest.mark.parametrize("check", BOTH)
def test_an_answer_that_had_to_wait_until_its_time_was_over_has_a_record_without_tokens(in_place, check):
    one = in_place.generate(PROMPT, SAMPLED, seed=3, max_time=1e-9).record()
    if not one.ids:
        assert check(in_place, one).outcome == "equal"
    assert check(in_place, one).holds


# a record that was changed: what is found, and where


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize("step", [0, 1, 13, 29])
def test_a_forged_token_is_found_at_its_step(in_place, answered, check, step):
    ids = list(answered.ids)
    ids[step] = 40 if ids[step] != 40 else 41
    found = check(in_place, replace(answered, ids=tuple(ids)))
    assert (found.outcome, found.step, found.holds) == ("token", step, False)
    assert found.gap > 1e-3
    assert f"the record has {in_place.tokenizer.spell(ids[step])!r} ({ids[step]}), here" in found.why
    assert "so prompt, model or the token itself are others" in found.why


@pytest.mark.parametrize("check", BOTH)
def test_another_seed_or_sample_is_found_and_suspected(in_place, answered, check):
    for forged in (replace(answered, seed=5), replace(answered, sample=1)):
        found = check(in_place, forged)
        assert found.outcome == "token" and found.step < 5
        assert found.why.endswith("so the seed or the sample is another")


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize(
    "forge",
    [
        lambda one: option(one, 0, t=0.5),
        lambda one: option(one, 0, t=0.92),
        lambda one: option(one, 0, t=0.9001),
        lambda one: option(one, 1, p=0.3),
        lambda one: replace(one, chain=one.chain[:1]),
        lambda one: replace(one, chain=(*one.chain, Entry("top_k", {"k": 3}, one.chain[0].origin))),
        lambda one: replace(one, chain=(Entry("greedy", {}, ""),)),
    ],
)
def test_another_chain_is_found_and_suspected(in_place, answered, check, forge):
    found = check(in_place, forge(answered))
    assert found.outcome in ("token", "numbers") and not found.holds
    assert "another chain" in found.why or "the chain is another" in found.why, found


@pytest.mark.parametrize("check", BOTH)
def test_what_removed_the_recorded_token_is_named(in_place, answered, check):
    found = check(in_place, option(answered, 1, p=0.05))
    assert found.outcome == "token"
    assert "TopP(p=0.05)" in found.why and "removes the recorded one, " in found.why
    assert "nats behind the last it keeps" in found.why


def test_an_option_that_changes_only_how_many_columns_are_left_is_found_where_numbers_are_equal(in_place):
    one = in_place.generate(PROMPT, "top_k=50, temperature=0.1", seed=1, max_new_tokens=30).record()
    found = replay(in_place, option(one, 0, k=49))
    assert (found.outcome, found.step) == ("numbers", 0)
    assert "the token was drawn from 50 columns, here not: another chain" in found.why


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize("chain", ["greedy", SAMPLED])
@pytest.mark.parametrize("place", [0, 7, -1])
def test_another_prompt_is_found_at_the_first_step(in_place, check, chain, place):
    one = in_place.generate(PROMPT, chain, seed=4, max_new_tokens=30).record()
    prompt = list(one.prompt)
    prompt[place] = 42
    found = check(in_place, replace(one, prompt=tuple(prompt)))
    assert not found.holds and (found.step == 0 or "already at step 0" in found.why)
    assert "another prompt or model" in found.why or "prompt, model or the token itself" in found.why


@pytest.mark.parametrize("check", BOTH)
def test_a_prompt_of_another_length_is_found_at_the_first_step(in_place, answered, check):
    found = check(in_place, replace(answered, prompt=answered.prompt[1:]))
    assert not found.holds and (found.step == 0 or "already at step 0" in found.why)


@pytest.mark.parametrize("check", BOTH)
def test_an_answer_cut_short_is_found_at_its_end(in_place, answered, check):
    shorter = {name: getattr(answered, name)[:12] for name in ("ids", "logits", "scores", "widths")}
    found = check(in_place, replace(answered, **shorter))
    assert (found.outcome, found.step) == ("end", 11)
    assert found.why == "the record ends (length, 30 tokens), here nothing ends it"
    timed = check(in_place, replace(answered, **shorter, finish_reason="time", stopped_by="3 s"))
    assert timed.outcome == "end"  # no limit of time is among the criteria


@pytest.mark.parametrize("check", BOTH)
def test_an_answer_that_goes_on_is_found_where_it_should_have_ended(in_place, answered, check):
    end = Entry("max_new_tokens", {"n": 10}, answered.criteria[-1].origin)
    found = check(in_place, replace(answered, criteria=(*answered.criteria[:-1], end)))
    assert (found.outcome, found.step) == ("end", 9)
    assert found.why == "here the answer ends (length, 10 tokens), the record goes on"


@pytest.mark.parametrize("check", BOTH)
def test_another_reason_is_found_at_the_end(in_place, answered, check):
    for forged in (replace(answered, finish_reason="stop"), replace(answered, stopped_by="token 0")):
        found = check(in_place, forged)
        assert (found.outcome, found.step) == ("end", 29)


@pytest.mark.parametrize("check", BOTH)
def test_other_criteria_and_settings_are_found(in_place, check):
    free = in_place.generate(PROMPT, "temperature=1", seed=4, max_new_tokens=150, ignore_eos=True)
    early, late = ("".join(t.text for t in part) for part in (free.tokens[:60], free.tokens[60:]))
    stop = next(c for c in early if c in late and c != "\ufffd")
    one = in_place.generate(PROMPT, "temperature=1", seed=4, stop=stop, min_new_tokens=60).record()
    assert one.stopped_by == repr(stop) and check(in_place, one).holds
    for other in ({"strings": [stop], "after": 0}, {"strings": ["\x01"], "after": 60}):
        criteria = [replace(e, options=other) if e.name == "stop_strings" else e for e in one.criteria]
        assert check(in_place, replace(one, criteria=tuple(criteria))).outcome == "end"


@pytest.mark.parametrize("check", BOTH)
def test_another_least_length_is_found(make_decoder, script, check):
    decoder = make_decoder(script("the cat!"))
    one = decoder.generate("a", min_new_tokens=20, max_new_tokens=20).record()
    assert one.finish_reason == "length" and check(decoder, one).holds
    found = check(decoder, replace(one, min_new_tokens=0))
    assert (found.outcome, found.step) == ("token", decoder.generate("a").usage.completion_tokens - 1)
    found = check(decoder, replace(one, stop_token_ids=(one.ids[1],)))
    assert (found.outcome, found.step) == ("token", 1) and "MinNewTokens" in found.why


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize("field", ["logits", "scores", "widths"])
def test_forged_numbers_are_found_at_their_step(in_place, answered, check, field):
    numbers = list(getattr(answered, field))
    numbers[5] += 3
    found = check(in_place, replace(answered, **{field: tuple(numbers)}))
    assert (found.outcome, found.step) == ("numbers", 5)


@pytest.mark.parametrize("check", BOTH)
def test_another_model_is_found_at_the_first_step(make_decoder, tokenizer, check):
    one = make_decoder().generate("the cat", SAMPLED, seed=1, max_new_tokens=20).record()
    other = np.random.default_rng(2).standard_normal((tokenizer.size,) * 2).astype(np.float32)
    found = check(make_decoder(other), one)
    assert not found.holds and found.step == 0 and "model" in found.why


# near ties


@pytest.fixture
def torn(make_decoder, tokenizer):
    """A decoder for which tokens 100 and 101 are the best and 1e-4 nats apart, after every token."""
    table = np.zeros((tokenizer.size, tokenizer.size), np.float32)
    table[:, 100], table[:, 101] = 5.0001, 5.0
    return make_decoder(table)


def test_a_near_tie_is_called_so_and_is_no_fault_where_only_checked(torn):
    one = torn.generate("the cat", max_new_tokens=5).record()
    assert one.ids == (100,) * 5
    forged = replace(one, ids=(100, 100, 101, 100, 101))
    found = replay(torn, forged)
    assert (found.outcome, found.step) == ("token", 2) and found.gap == pytest.approx(1e-4, rel=0.01)
    assert "a near tie, which rounding decides" in found.why and "Greedy()" in found.why
    found = verify(torn, forged)
    assert (found.outcome, found.step) == ("rounded", 2) and "near ties at steps 2, 4" in found.why


def test_a_near_tie_of_logits_with_their_noise_is_called_so(make_decoder, tokenizer):
    table = np.random.default_rng(1).standard_normal((tokenizer.size,) * 2).astype(np.float32)
    decoder = make_decoder(table)
    one = decoder.generate("the cat", "temperature=1", seed=3, max_new_tokens=6, ignore_eos=True).record()
    assert one.ids[3] not in (one.prompt[-1], *one.ids[:3], *one.ids[4:])  # so its row is used at step 4 only
    step = Step.dense((History(np.asarray([*one.prompt, *one.ids[:4]]), len(one.prompt), 3),), len(table))
    total = table[one.ids[3]] + gumbel(keys(step.rows), step.ids)[0]
    rival = int(np.argsort(total)[-2])
    table[one.ids[3], rival] += total.max() - total[rival] - 2e-4  # now it loses by so much
    found = replay(decoder, replace(one, ids=(*one.ids[:4], rival, one.ids[5])))
    assert (found.outcome, found.step) == ("token", 4) and found.gap == pytest.approx(2e-4, rel=0.05)
    assert "loses by 0.0002 nats: a near tie" in found.why


# what is installed


@dataclass(frozen=True)
class Running(LogitsProcessor):
    """Never one token twice; remembers the last one."""

    name: str = "x"
    length: int = field(init=False, default=0)

    def init(self, batch):
        return np.full((batch, 1), -1)

    def process(self, logits, step, state):
        return np.where(step.ids == state, -np.inf, logits).astype(logits.dtype)

    def accept(self, logits, column, state):
        return column[:, None].copy()


class Nine(StoppingCriterion):
    def check(self, progress):
        return Stop("nine") if len(progress.history.generated) == 9 else None


def with_plugins(decoder, version="1.0", **factories):
    """The decoder with processors of another distribution."""
    plugin = Plugin("other", f"decodekit-other {version}", "ok")
    registry = decoder.plugins.logits_processors
    entries = registry.entries | {name: (factory, plugin) for name, factory in factories.items()}
    plugins = replace(decoder.plugins, logits_processors=replace(registry, entries=entries))
    return Decoder(decoder.model, decoder.tokenizer, decoder.bundle, plugins)


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize("chain", [["temperature=1", "running.name=y"], ["temperature=1", Running("y")]])
def test_a_plugin_that_remembers_is_made_again_from_its_options(tiny, check, chain):
    other = with_plugins(tiny, running=Running)
    one = again(other.generate(PROMPT, chain, seed=3, max_new_tokens=30).record())
    assert one.chain[1] == Entry("running", {"name": "y"}, "decodekit-other 1.0")
    assert check(other, one).holds
    assert check(other, replace(one, ids=(*one.ids[:9], one.ids[8], *one.ids[10:]))).step == 9


@pytest.mark.parametrize("check", BOTH)
def test_a_plugin_that_is_missing_is_named_with_its_distribution(in_place, check):
    one = with_plugins(in_place, running=Running).generate(PROMPT, "running", max_new_tokens=3).record()
    with pytest.raises(
        RecordError, match=r"chain\[0\]: no logits processor named 'running'.*decodekit-other 1.0"
    ):
        check(in_place, one)


@pytest.mark.parametrize("check", BOTH)
def test_another_version_of_a_plugin_is_told(in_place, check):
    one = with_plugins(in_place, running=Running).generate(PROMPT, "running", max_new_tokens=3).record()
    newer = with_plugins(in_place, "2.0", running=Running)
    found = check(newer, one)
    assert found.holds and found.changed == ("running: decodekit-other 1.0 -> decodekit-other 2.0",)
    one = option(one, 0, size=3)
    with pytest.raises(
        RecordError, match=r"unexpected keyword argument 'size'.*recorded with decodekit-other 1.0"
    ):
        check(newer, one)


@pytest.mark.parametrize("check", BOTH)
def test_other_libraries_are_told(in_place, answered, check):
    made_by = {**answered.made_by, "onnxruntime": "1.0.0"}
    found = check(in_place, replace(answered, made_by=made_by))
    assert found.holds and found.changed == (f"onnxruntime: 1.0.0 -> {answered.made_by['onnxruntime']}",)


def test_the_libraries_are_in_the_record(answered):
    assert set(answered.made_by) == {"decodekit", "numpy", "onnxruntime", "provider"}


@pytest.mark.parametrize("options", [{"chain": [Running("y")]}, {"criteria": [Nine()]}])
def test_an_object_that_no_name_stands_for_has_a_record_that_cannot_be_decoded_again(in_place, options):
    one = again(in_place.generate(PROMPT, max_new_tokens=12, **options).record())
    with pytest.raises(RecordError, match=r"(chain\[0\]: Running|criteria\[1\]: Nine) cannot be made again"):
        replay(in_place, one)


def test_options_that_json_cannot_say_are_none_in_the_record(in_place):
    other = with_plugins(in_place, running=Running)
    for odd in (float("nan"), Running, {1, "a"}):
        one = again(other.generate(PROMPT, [Running(odd)], max_new_tokens=2).record())
        assert one.chain[0] == Entry("running", None, "decodekit-other 1.0")


# a record that is none

BAD = [
    ([], "no record of an answer"),
    ({}, "no record of an answer"),
    ({"record": 2}, "format 2 is not known here, only 1"),
    ({"prompt": None}, "prompt must be a list, got None"),
    ({"prompt": []}, "prompt is empty"),
    ({"prompt": [1, -1]}, r"prompt\[1\] must be a whole number in"),
    ({"ids": [True]}, r"ids\[0\] must be a whole number in"),
    ({"ids": [1.0]}, r"ids\[0\] must be a whole number in"),
    ({"ids": [1]}, "logits must have a number for each of 1 ids, got 30"),
    ({"scores": []}, "scores must have a number for each of 30 ids, got 0"),
    ({"logits": [10**400]}, r"logits\[0\] must be a finite number of 32 bits"),
    ({"logits": [float("nan")]}, r"logits\[0\] must be a finite number"),
    ({"logits": [1e39]}, r"logits\[0\] must be a finite number"),
    ({"seed": -1}, r"seed must be a whole number in \[0, 18446744073709551616\), got -1"),
    ({"seed": 2**64}, "seed must be"),
    ({"ignore_eos": 1}, "ignore_eos must be true or false, got 1"),
    ({"bundle": 3}, "bundle must be a string, got 3"),
    ({"made_by": []}, "made_by must map names to versions"),
    ({"made_by": {"numpy": 2}}, r"made_by\['numpy'\] must be a string"),
    ({"chain": []}, "chain is empty"),
    ({"chain": ["greedy"]}, r"chain\[0\] must have name, options and from"),
    (
        {"chain": [{"name": "greedy", "options": [], "from": ""}]},
        r"chain\[0\].options must be an object or null",
    ),
    ({"chain": [{"name": 1, "options": {}, "from": ""}]}, r"chain\[0\].name must be a string"),
    ({"extra": 1}, "'extra' is a field that no record has"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_is_no_record_is_refused_with_the_field(answered, change, message):
    whole = answered.to_json()
    bad = {**whole, **change} if change else change
    with pytest.raises(RecordError, match=f"^there: {message}"):
        Record.from_json(bad, "there")


def test_a_record_with_a_field_missing_is_refused(answered):
    for name in answered.to_json():
        bad = {k: v for k, v in answered.to_json().items() if k != name}
        with pytest.raises(RecordError, match="is missing; the record was cut|no record of an answer"):
            Record.from_json(bad)


@pytest.mark.parametrize("check", BOTH)
@pytest.mark.parametrize(
    ("forge", "message"),
    [
        (lambda one: option(one, 0, t=-1), r"chain\[0\]: temperature: t must be in \[0, inf\), got -1"),
        (
            lambda one: option(one, 0, t=10**400),
            r"chain\[0\]: temperature: t must be in \[0, inf\), got 1000",
        ),
        (lambda one: option(one, 0, t="hot"), r"chain\[0\]: temperature: t must be a number"),
        (lambda one: option(one, 0, name=1, self=2), r"chain\[0\]: temperature: got an unexpected keyword"),
        (lambda one: replace(one, ids=(999, *one.ids[1:])), r"ids\[0\] must be a token id of this model, in"),
        (lambda one: replace(one, prompt=(999,)), r"prompt\[0\] must be a token id"),
        (lambda one: replace(one, criteria=one.criteria[:-1]), "criteria must have max_new_tokens"),
        (lambda one: replace(one, chain=(Entry("top_l", {}, ""),)), "did you mean 'top_p'"),
        (lambda one: replace(one, prompt=(1,) * 700), "exceed the context window of 600"),
        (lambda one: replace(one, stop_token_ids=(2**30,), min_new_tokens=1), "token ids are in"),
    ],
)
def test_what_this_model_cannot_decode_is_refused_with_the_field(in_place, answered, check, forge, message):
    with pytest.raises(DecodekitError, match=message) as caught:
        check(in_place, forge(answered))
    assert caught.value.exit_code == 2


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
CALM = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@CALM
@given(ANYTHING)
def test_whatever_is_read_is_a_record_or_refused(data):
    with pytest.raises(RecordError):
        Record.from_json(data)


@CALM
@given(st.data())
def test_a_record_with_anything_in_a_field_is_checked_or_refused(in_place, answered, data):
    changed = answered.to_json()
    field = data.draw(st.sampled_from([*changed, "chain options", "criteria options", "numbers"]))
    if field.endswith("options"):
        field = field.split()[0]
        entry = data.draw(st.sampled_from(changed[field]))
        keys = st.sampled_from([*entry["options"], "name", "self", "x"])
        entry["options"] = data.draw(st.dictionaries(keys, ANYTHING, max_size=3))
    elif field == "numbers":
        count = data.draw(st.integers(0, 3))
        for name in ("ids", "widths"):
            changed[name] = data.draw(st.lists(st.integers(0, 300), min_size=count, max_size=count))
        for name in ("logits", "scores"):
            changed[name] = data.draw(st.lists(st.floats(width=32), min_size=count, max_size=count))
    else:
        changed[field] = data.draw(ANYTHING)
    for check in BOTH:
        try:
            found = check(in_place, Record.from_json(changed))
        except DecodekitError:
            continue
        assert found.outcome in ("equal", "rounded", "numbers", "token", "end")
        assert json.dumps(found.to_json(), allow_nan=False)


# the command line

COFFEE = "Give me a tagline for a new coffee shop."


@pytest.fixture
def recorded(run, tmp_path):
    """A file with the records of five answers of the embedded model."""
    file = str(tmp_path / "answers.jsonl")
    run("generate", "tagline", COFFEE, "-p", "temperature=0.9", "--seed", "2", "-n", "3", "--record", file)
    run("generate", "tagline", COFFEE, "--seed", "1", "--record", file)
    run("generate", "tagline", COFFEE, "-p", "top_k=5", "--seed", "3", "--json", "--record", file)
    return file


def test_generate_appends_a_line_for_every_answer_and_replay_checks_them(run, recorded):
    lines = Path(recorded).read_text().splitlines()
    assert [json.loads(line)["sample"] for line in lines] == [0, 1, 2, 0, 0]
    for words in ((), ("--verify",)):
        status, out, _ = run("replay", recorded, *words)
        assert status == 0 and [line.split(": ")[0] for line in out.splitlines()] == [
            f"{recorded}:{n}" for n in range(1, 6)
        ]
    status, out, _ = run("replay", recorded, "--json")
    assert status == 0 and {json.loads(line)["outcome"] for line in out.splitlines()} == {"equal"}


@pytest.mark.parametrize("words", [(), ("--verify",)])
def test_a_record_that_does_not_hold_is_status_1_with_the_reason(run, recorded, words):
    lines = Path(recorded).read_text().splitlines()
    forged = json.loads(lines[1])
    forged["seed"] = 77
    Path(recorded).write_text("\n".join([lines[0], json.dumps(forged), lines[2]]) + "\n")
    status, out, err = run("replay", recorded, *words)
    first, second, third = out.splitlines()
    assert (status, err) == (1, "")
    assert "equal" in first or "rounded" in first
    assert ":2: token, step " in second and "the seed or the sample is another" in second
    assert ":3: " in third and "token, step" not in third


def test_replay_takes_the_bundle_it_is_given(run, recorded, tmp_path):
    copy = shutil.copytree(FIXTURES / "in_place", tmp_path / "tiny")
    file = str(tmp_path / "tiny.jsonl")
    run("generate", str(copy), "a", "--max-new-tokens", "5", "--record", file)
    assert run("replay", file, "--bundle", str(copy))[0] == 0
    status, _, err = run("replay", file)
    assert status == 2 and f"{file}:1: tiny-in_place: no such folder" in err and "--bundle" in err
    status, out, _ = run("replay", file, "--bundle", "tagline")
    assert status == 1 and "1: token, step 0: the record has" in out and "bundle sha256: " in out
    status, _, err = run("replay", recorded, "--bundle", str(copy))
    assert status == 2 and "it is of another bundle, 'tagline'" in err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no record in it"),
        ("{}\n", "a.jsonl:1: no record of an answer"),
        ("\n\nnonsense\n", "a.jsonl:3: not JSON"),
        ('{"record": 9}\n', "a.jsonl:1: format 9 is not known here"),
    ],
)
def test_a_file_without_records_is_one_line_and_status_2(run, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text(content)
    status, out, err = run("replay", "a.jsonl")
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1
    status, _, err = run("replay", "b.jsonl")
    assert status == 2 and "b.jsonl: cannot be read (No such file or directory)" in err


def test_a_record_that_cannot_be_written_is_one_line_and_status_2(run, tmp_path):
    status, _, err = run("generate", "tagline", COFFEE, "--record", str(tmp_path / "no" / "a.jsonl"))
    assert status == 2 and "cannot be written (No such file or directory)" in err.splitlines()[-1]
