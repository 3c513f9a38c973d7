"""Beam search: against every answer there is, by hand, and over graphs."""

import itertools
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit import LogitsProcessor, Sampler, cli
from decodekit.beam import Rows, assign, common
from decodekit.engine import Engine
from decodekit.errors import ContextError, ContractError, EngineClosedError, NumericalError, ParameterError
from decodekit.ops import keep, log_softmax
from decodekit.search import Rules, Search, best
from decodekit.testing import TableModel

FIXTURES = Path(__file__).parent / "fixtures"
PENALTIES = [-1.0, 0.0, 0.6, 1.0, 2.0]
END, START = 0, 1


def search(table, beams, *, room, penalty=0.0, stopping=False, ends=(END,), chain=()):
    """Score and generated ids of what ends, best first, after START."""
    engine = Engine(TableModel(np.asarray(table, np.float32)))
    found = Search([START], Sampler(chain), Rules(beams, penalty, stopping), room=room, ends=ends)
    rows = Rows(engine.slots(beams), engine)
    logits = rows.read([START])
    while True:
        found.turn(logits)
        if found.over:
            engine.close()
            return [(found.score(path), tuple(path.ids[1:].tolist())) for path in found.ended]
        logits = rows.step(found.running)


def every_answer(table, *, room, penalty):
    """The same of all answers there are."""
    logp = log_softmax(np.asarray(table, np.float64))
    answers = []
    for length in range(1, room + 1):
        for ids in itertools.product(range(len(table)), repeat=length):
            if END not in ids[:-1] and (ids[-1] == END or length == room):
                total = sum(logp[a, b] for a, b in itertools.pairwise((START, *ids)))
                answers.append((total / length**penalty, ids))
    return sorted(answers, reverse=True)


def probabilities(rows, size=5):
    """A table from {token: {next: probability}}; what is not named is all but impossible."""
    table = np.full((size, size), -30.0)
    for now, then in rows.items():
        for token, p in then.items():
            table[now, token] = np.log(p)
    return table


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("seed", range(4))
def test_beams_enough_for_all_answers_find_the_best_of_all(seed, penalty):
    table = np.random.default_rng(seed).standard_normal((3, 3)) * 2
    found = search(table, 24, room=4, penalty=penalty, stopping="never")
    answers = every_answer(table, room=4, penalty=penalty)
    score_of = {ids: score for score, ids in answers}
    assert len({ids for _, ids in found}) == 24  # in a bigram model many have the same score
    assert np.allclose([score for score, _ in found], [score_of[ids] for _, ids in found], atol=1e-5)
    assert np.allclose([score for score, _ in found], [score for score, _ in answers[:24]], atol=1e-5)


def test_a_probable_start_may_lead_to_an_improbable_whole():
    table = probabilities({START: {2: 0.6, 3: 0.4}, 2: {3: 0.5, 4: 0.5}, 3: {4: 1.0}, 4: {END: 1.0}})
    assert search(table, 1, room=3)[0][1] == (2, 3, 4)  # greedy: 0.3
    assert search(table, 2, room=3)[0][1] == (3, 4, END)  # 0.4


def test_the_score_is_the_sum_by_the_length_to_the_power_of_the_penalty():
    table = probabilities({START: {END: 0.5, 2: 0.5}, 2: {END: 0.9, 3: 0.1}, 3: {END: 1.0}})
    scores = {ids: score for score, ids in search(table, 2, room=9, penalty=0.0)}
    assert scores == pytest.approx({(END,): np.log(0.5), (2, END): np.log(0.45)})
    for penalty, first in [(-1, (END,)), (0, (END,)), (1, (2, END)), (2, (2, END))]:
        (score, ids), *_ = search(table, 2, room=9, penalty=penalty)
        assert ids == first
        assert score == pytest.approx(scores[ids] / len(ids) ** penalty)


def test_early_stopping_true_stops_at_enough_answers_and_false_looks_one_step_further():
    table = probabilities(
        {
            START: {END: 0.4, 2: 0.35, 3: 0.25},
            2: {END: 0.5, 4: 0.5},
            3: {4: 0.9, 3: 0.1},
            4: {END: 0.6, 4: 0.4},
        }
    )
    soon = search(table, 2, room=9, penalty=1.0, stopping=True)
    assert [ids for _, ids in soon] == [(2, END), (END,)]
    later = search(table, 2, room=9, penalty=1.0, stopping=False)
    assert later[0][1] == (3, 4, END)
    assert later[0][0] == pytest.approx(np.log(0.25 * 0.9 * 0.6) / 3)


def test_never_counts_on_the_latest_end_that_there_is_room_for():
    table = probabilities({START: {END: 0.5, 2: 0.45, 3: 0.05}, 2: {END: 0.9, 3: 0.1}})
    assert [search(table, 1, room=2, penalty=1.0, stopping=s)[0][1] for s in (True, False, "never")] == [
        (END,),
        (END,),  # log 0.45 is not above log 0.5
        (2, END),  # log 0.45 / 2 is
    ]
    assert search(table, 1, room=2, penalty=-1.0, stopping="never")[0][1] == (END,)


def test_an_end_that_is_not_among_the_best_beams_is_not_kept():
    table = probabilities({START: {2: 0.5, 3: 0.3, END: 0.2}, 2: {4: 1.0}, 3: {4: 1.0}, 4: {END: 1.0}})
    assert search(table, 2, room=9, penalty=-1.0)[0][1] == (2, 4, END)
    assert search(table, 3, room=9, penalty=-1.0)[0][1] == (END,)


def test_the_worst_of_the_ended_answers_is_the_one_to_beat():
    table = probabilities({START: {END: 0.5, 2: 0.3, 3: 0.2}, 2: {END: 0.2, 4: 0.8}, 3: {END: 0.6, 4: 0.4}})
    table[4, END] = 0.0
    soon, later = (search(table, 2, room=9, penalty=1.0, stopping=stopping) for stopping in (True, False))
    assert [ids for _, ids in soon] == [(END,), (3, END)]
    assert [ids for _, ids in later] == [(2, 4, END), (END,)]


def test_at_the_last_token_every_way_ends():
    table = probabilities({START: {2: 0.7, 3: 0.3}, 2: {2: 0.9, 3: 0.1}, 3: {3: 1.0}})
    assert [ids for _, ids in search(table, 3, room=2)] == [(2, 2), (3, 3), (2, 3)]


def test_there_may_be_several_end_tokens():
    table = probabilities({START: {END: 0.2, 2: 0.3, 3: 0.5}, 3: {2: 1.0}})
    assert {ids for _, ids in search(table, 3, room=9, ends=(END, 2))} == {(END,), (2,), (3, 2)}


def test_of_equals_the_lower_id_and_the_better_path_come_first():
    table = np.zeros((4, 4))
    assert [ids for _, ids in search(table, 3, room=2, ends=())] == [(0, 0), (0, 1), (0, 2)]


def test_fewer_answers_than_beams_where_there_are_no_more():
    table = probabilities({START: {END: 0.5, 2: 0.5}, 2: {END: 1.0}})
    table[table < -20] = -np.inf
    table[[END, 3, 4], 3] = 0.0
    assert [ids for _, ids in search(table, 4, room=9)] == [(END,), (2, END)]


class Once(LogitsProcessor):
    """Every token once; remembers them. First of a chain, so that columns are ids."""

    def init(self, batch):
        return ((),) * batch

    def process(self, logits, step, seen):
        return np.stack([keep(row, ~np.isin(ids, s)) for row, ids, s in zip(logits, step.ids, seen)])

    def accept(self, logits, column, seen):
        return tuple((*s, int(c)) for s, c in zip(seen, column))


class OnceByHistory(LogitsProcessor):
    def process(self, logits, step, state):
        return keep(logits, step.generated_counts() == 0)


@pytest.mark.parametrize("seed", range(5))
def test_the_states_of_strategies_go_with_their_paths(seed):
    table = np.random.default_rng(seed).standard_normal((9, 9))
    found = search(table, 4, room=6, ends=(END,), chain=(Once(),))
    assert found == search(table, 4, room=6, ends=(END,), chain=(OnceByHistory(),))
    assert all(len(set(ids)) == len(ids) for _, ids in found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, -np.inf]), min_size=1), st.integers(1, 9))
def test_the_best_are_those_of_a_stable_sort(totals, count):
    order = sorted((i for i, t in enumerate(totals) if t > -np.inf), key=lambda i: -totals[i])
    assert best(np.asarray(totals), count).tolist() == order[:count]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_no_row_that_another_path_goes_on_from_is_written_to(sources):
    rows = assign(sources)
    assert sorted(rows) == list(range(len(sources)))
    written = {row for row, source in zip(rows, sources) if row != source}
    assert not written & set(sources)
    assert len(written) == len(sources) - len(set(sources) & set(range(len(sources))))


def test_the_ids_that_two_rows_share():
    assert common(np.asarray([1, 2, 3]), np.asarray([1, 2, 4, 5])) == 2
    assert common(np.asarray([1, 2]), np.asarray([1, 2, 4])) == 2
    assert common(np.asarray([]), np.asarray([1])) == 0


# over decoders


@cache
def load(kind):
    return decodekit.load(FIXTURES / kind, plugins=decodekit.load_plugins(only=()))


@pytest.fixture(params=["table", "in_place", "concatenating"])
def decoder(request, make_decoder):
    return make_decoder() if request.param == "table" else load(request.param)


LONG = [int(i) for i in np.random.default_rng(5).integers(1, 250, 300)]
OPTIONS = {"max_new_tokens": 25, "length_penalty": 0.7}


@pytest.mark.parametrize("prompt", ["Once upon a time", LONG], ids=["short", "long"])
@pytest.mark.parametrize("beams", [1, 2, 5, 8])
def test_the_log_probabilities_are_those_of_the_ids_read_at_once(decoder, prompt, beams):
    found = decoder.beam(prompt, beams=beams, n=beams, ignore_eos=True, **OPTIONS)
    assert len(found) == len({beam.ids for beam in found}) == beams
    assert [beam.score for beam in found] == sorted((beam.score for beam in found), reverse=True)
    asked = decoder.encode(prompt)
    for beam in found:
        tokens = np.asarray((*asked, *beam.ids[:-1]))
        logits, _ = decoder.model(tokens, decoder.model.new_cache(), last=len(beam.ids))
        expected = log_softmax(logits.astype(np.float64))[np.arange(len(beam.ids)), beam.ids]
        assert np.allclose([token.logprob for token in beam.tokens], expected, atol=1e-4)
        assert beam.score == pytest.approx(expected.sum() / len(beam.ids) ** 0.7, abs=1e-4)


def test_both_cache_kinds_find_the_same():
    for prompt in ("Once upon a time", "b", LONG):
        one, two = (
            load(kind).beam(prompt, beams=6, n=6, **OPTIONS) for kind in ("in_place", "concatenating")
        )
        assert [beam.ids for beam in one] == [beam.ids for beam in two]
        assert np.allclose([beam.score for beam in one], [beam.score for beam in two], atol=1e-4)


def test_one_beam_is_greedy_decoding(decoder):
    for prompt in ("Once upon a time", "the cat"):
        (beam,) = decoder.beam(prompt, beams=1, max_new_tokens=30)
        completion = decoder.generate(prompt, max_new_tokens=30)
        assert (beam.ids, beam.text, beam.finish_reason) == (
            completion.ids,
            completion.text,
            completion.finish_reason,
        )


def test_a_chain_that_leaves_one_candidate_leaves_one_answer(decoder):
    (beam,) = decoder.beam("the cat", "top_k=1", beams=4, n=4, max_new_tokens=12)
    assert beam.ids == decoder.generate("the cat", max_new_tokens=12).ids


def test_more_beams_than_one_never_find_less(decoder):
    scores = [
        decoder.beam("the cat", beams=beams, max_new_tokens=12, ignore_eos=True, length_penalty=0.0)[0].score
        for beams in (1, 64)
    ]
    assert scores[0] <= scores[1]


def test_the_text_ends_before_the_end_token(make_decoder, script, tokenizer):
    (beam,) = make_decoder(script("the cat!")).beam("a", beams=3)
    assert (beam.text, beam.finish_reason) == ("the cat!", "stop")
    assert beam.ids[-1] == tokenizer.id("<|end|>")
    assert beam.tokens[-1].stop.by == f"token {beam.ids[-1]}" and beam.tokens[0].stop is None
    assert beam.usage.prompt_tokens == 4 and beam.usage.completion_tokens == len(beam.ids)


def test_stop_token_ids_and_min_new_tokens(make_decoder, script, tokenizer):
    decoder = make_decoder(script("the cat!"))
    ids = tokenizer.encode_plain("the cat!")
    (beam,) = decoder.beam("a", beams=3, stop_token_ids=[ids[1]])
    assert beam.ids == tuple(ids[:2])
    longer = decoder.beam("a", beams=3, n=3, min_new_tokens=len(ids) + 4, max_new_tokens=len(ids) + 6)
    assert all(len(beam.ids) >= len(ids) + 5 for beam in longer)


def test_ids_that_pad_the_vocabulary_are_in_no_answer(make_decoder, tokenizer):
    decoder = make_decoder(padding=50)
    decoder.model.table[:, tokenizer.size :] = 50.0
    assert max(decoder.beam("the cat", beams=3, max_new_tokens=6)[0].ids) < tokenizer.size


def test_requests_beside_a_search_get_their_tokens_and_it_finds_the_same(decoder):
    options = {"seed": 6, "max_new_tokens": 40, "ignore_eos": True}
    prompts = ["the cat", "a dog", LONG]
    alone = [decoder.generate(p, "temperature=0.9", **options).ids for p in prompts]
    found = decoder.beam("b", beams=4, n=4, **OPTIONS)
    streams = [decoder.stream(p, "temperature=0.9", **options) for p in prompts]
    assert decoder.beam("b", beams=4, n=4, **OPTIONS) == found
    assert [stream.complete().ids for stream in streams] == alone


def test_a_deterministic_decoder_searches_row_by_row():
    decoder = decodekit.load(FIXTURES / "in_place", deterministic=True)
    expected = load("in_place").beam("the cat", beams=4, n=4, **OPTIONS)
    assert [b.ids for b in decoder.beam("the cat", beams=4, n=4, **OPTIONS)] == [b.ids for b in expected]


def test_a_beam_is_plain_data(decoder):
    (beam,) = decoder.beam("the cat", "repetition_penalty=1.2", beams=2, max_new_tokens=3)
    data = json.loads(json.dumps(beam.to_json()))
    assert data["recipe"]["beam"] == {"beams": 2, "length_penalty": 1.0, "early_stopping": False}
    assert [link["name"] for link in data["recipe"]["chain"]] == ["repetition_penalty"]
    assert data["recipe"]["ids"] == [token["id"] for token in data["tokens"]] == list(beam.ids)
    assert sum(t["logprob"] for t in data["tokens"]) == pytest.approx(data["score"] * len(beam.ids))


def test_memory_that_the_beams_do_not_fit_into_is_refused_before_anything_runs():
    decoder = decodekit.load(FIXTURES / "in_place", cache_bytes=100_000)
    assert decoder.beam("a", beams=2, max_new_tokens=100)
    with pytest.raises(
        ContextError,
        match="a cache for 20 beams of 101 tokens does not fit into the memory allowed; lower beams or",
    ):
        decoder.beam([5], beams=20, max_new_tokens=100)


def test_a_search_with_a_closed_decoder_says_so(make_decoder):
    decoder = make_decoder()
    decoder.close()
    with pytest.raises(EngineClosedError):
        decoder.beam("a")


def test_logits_and_strategies_that_give_no_numbers_are_named(make_decoder, tokenizer):
    class Nothing(LogitsProcessor):
        def process(self, logits, step, state):
            return np.full_like(logits, -np.inf)

    with pytest.raises(ContractError, match="no candidate left after .*Nothing.* at token 0"):
        make_decoder().beam("a", [Nothing()])
    broken = make_decoder(np.full((tokenizer.size, tokenizer.size), np.nan, np.float32))
    with pytest.raises(NumericalError, match="the model gave NaN logits at token 0"):
        broken.beam("a")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"beams": 0}, ParameterError, r"beams must be in \[1, 128\], got 0"),
        ({"n": 5}, ParameterError, r"n must be in \[1, 4\], got 5; ask for more beams"),
        ({"length_penalty": float("nan")}, ParameterError, "length_penalty must be in"),
        ({"early_stopping": 1}, ParameterError, "early_stopping must be True, False or 'never', got 1"),
        ({"chain": "greedy"}, ParameterError, "a chain for beam search must leave more than the best"),
        ({"max_new_tokens": 0}, ParameterError, "max_new_tokens: n must be in"),
        ({"max_new_tokens": 10**6}, ContextError, "exceed the context window"),
        ({"stop": "x"}, TypeError, "stop"),
    ],
)
def test_what_cannot_be_searched_is_refused_with_the_way_out(decoder, options, error, message):
    with pytest.raises(error, match=message):
        decoder.beam(**{"prompt": "the cat"} | options)


def test_the_best_of_n_is_the_one_most_probable_per_token(decoder):
    options = {"seed": 3, "max_new_tokens": 8}
    chosen = decoder.best_of("the cat", "temperature=1", n=6, **options)
    answers = decoder.generate("the cat", "temperature=1", n=6, logprobs=0, **options)
    assert chosen == max(answers, key=lambda answer: answer.mean_logprob)
    assert decodekit.completion.best(answers) == chosen
    with pytest.raises(ValueError, match="best_of takes one prompt"):
        decoder.best_of(["a", "b"], n=2)


# on the command line

COFFEE = ["generate", "tagline", "Give me a tagline for a new coffee shop."]


def test_the_command_line_searches_as_the_library_does(capsys, monkeypatch):
    monkeypatch.setenv("DECODEKIT_PLUGINS", "")
    expected = decodekit.load("tagline").beam(COFFEE[2], beams=3, n=2, length_penalty=0.5)
    assert cli.main([*COFFEE, "--beams", "3", "-n", "2", "--length-penalty", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines() == [beam.text for beam in expected]
    assert cli.main([*COFFEE, "--beams", "3", "--length-penalty", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == expected[0].to_json()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--length-penalty", "1"], "--length-penalty is of beam search; add --beams"),
        (["--beams", "2", "--seed", "1"], "--beams and --seed exclude each other; leave one out"),
        (["--beams", "2", "--max-time", "1"], "--beams and --max-time exclude each other"),
        (["--beams", "2", "--speculate", "lookup"], "--beams and --speculate exclude each other"),
    ],
)
def test_the_command_line_refuses_what_does_not_go_together(capsys, words, message):
    assert cli.main([*COFFEE, *words]) == 2
    assert f"error[E_PARAMETER]: {message}" in capsys.readouterr().err
