"""Chains in a graph: the same tokens, from the few candidates that cross."""

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
from devices.agreement import agreement, compare, made, traceable

import decodekit
from decodekit.answer import Answer
from decodekit.edits import Edits, mask_of
from decodekit.errors import DeviceError, NumericalError, ParameterError, StrategyError
from decodekit.graph_sampling import reducer as reducer_module
from decodekit.graph_sampling.candidates import width_on_host
from decodekit.graph_sampling.plan import PATIENCE
from decodekit.graph_sampling.reducer import MAX_VARIANTS, Reducer
from decodekit.graph_sampling.stages import stages
from decodekit.ops import array_namespace, keep
from decodekit.parameters import Real
from decodekit.plugins import load_plugins
from decodekit.processors import LogitsProcessor
from decodekit.sampling import Sampler
from decodekit.strategies.greedy import Greedy
from decodekit.strategies.logit_bias import LogitBias
from decodekit.strategies.min_p import MinP
from decodekit.strategies.penalties import RepetitionPenalty
from decodekit.strategies.temperature import Temperature
from decodekit.strategies.top_k import TopK
from decodekit.strategies.top_p import TopP
from decodekit.strategies.typical import Typical

IN_PLACE = Path(__file__).parent / "fixtures" / "in_place"
V = 1000


@dataclass(frozen=True)
class Sharpened(LogitsProcessor):
    """Asks for the number itself, as code that knows nothing of graphs does."""

    s: Annotated[float, Real("[-2, 2]")]

    def process(self, logits, step, state):
        return logits * math.exp(self.s)


@dataclass(frozen=True)
class Deceives(LogitsProcessor):
    """Does something else to arrays that are not NumPy's."""

    def process(self, logits, step, state):
        return logits if array_namespace(logits) is np else logits * 2


@dataclass(frozen=True)
class Doubles(LogitsProcessor):
    """Gives another precision where it is traced."""

    def process(self, logits, step, state):
        xp = array_namespace(logits)
        return logits if xp is np else xp.astype(logits, xp.float64)


@dataclass(frozen=True)
class OnlyNumPy(LogitsProcessor):
    """Removes odd ids, in a way that no graph knows."""

    def process(self, logits, step, state):
        return np.where(np.asarray(step.ids) % 2 == 0, logits, -np.inf).astype(logits.dtype)


@dataclass(frozen=True)
class Even(LogitsProcessor):
    """The same for any arrays, so that the ids of columns matter."""

    def process(self, logits, step, state):
        return keep(logits, step.ids % 2 == 0)


@dataclass(frozen=True)
class Counts(LogitsProcessor):
    """A penalty that does not say what it edits."""

    def process(self, logits, step, state):
        return logits - step.counts().astype(logits.dtype)


@dataclass(frozen=True)
class Masked(LogitsProcessor):
    """Lets through some ids; none given, all."""

    ids: tuple[int, ...]

    def mask(self, row, state):
        return mask_of(np.asarray(self.ids), max(self.ids) + 1) if self.ids else None


@dataclass(frozen=True)
class Learns(LogitsProcessor):
    """Says what it edits, but looks at logits that were drawn from."""

    def edits(self, row, state):
        return Edits(row.ids, add=-1.0)

    def accept(self, logits, column, state):
        return state


@dataclass(frozen=True)
class Broken(LogitsProcessor):
    """Fails when it is asked."""

    def edits(self, row, state):
        raise KeyError("no table")


@dataclass(frozen=True)
class BreaksLater(LogitsProcessor):
    """Fails at the third token of an answer."""

    def edits(self, row, state):
        if len(row.generated) == 2:
            raise KeyError("no table")
        return Edits(row.ids, factor=2.0)


def logits_of(rows, vocabulary=V, scale=4.0, seed=0):
    return (np.random.default_rng(seed).standard_normal((rows, vocabulary)) * scale).astype(np.float32)


def reduced(reducer, chains, logits):
    return reducer.reduce([reducer.plan(chain) for chain in chains], logits)


@pytest.fixture(scope="module")
def reducer():
    return Reducer(V, threads=1)


@pytest.fixture(scope="module")
def installed():
    return load_plugins().logits_processors


@pytest.fixture(scope="module")
def names(installed, reducer):
    return traceable(installed, reducer)


def test_most_truncations_and_shapings_trace(names, installed):
    assert set(names) >= {"greedy", "temperature", "top_k", "top_p", "min_p", "typical"}
    plugins = {"epsilon", "eta", "top_a", "tail_free", "top_n_sigma", "top_h", "p_less", "smoothing"}
    assert set(names) >= plugins & set(installed.entries)


def test_every_strategy_that_traces_gives_the_tokens_of_the_host(names, installed, reducer):
    chance = random.Random(1)
    for name in names:
        chains = [[made(installed, name, chance)] for _ in range(8)]
        tally = compare(chains, reducer, chance, steps=3)
        assert tally.tokens == 24 and not tally.differing, tally.differing


def test_random_chains_in_batches_give_the_tokens_of_the_host(installed, names):
    tally = agreement(installed, names, chains=20, steps=8)
    assert tally.in_graph > tally.tokens // 2 and tally.holds, tally.differing


def test_strategies_that_say_what_they_do_run_in_a_graph(names, installed):
    said = {"repetition_penalty", "frequency_penalty", "presence_penalty", "logit_bias", "min_new_tokens"}
    assert set(names) >= said
    plugins = {"allowed_tokens", "suppress_at_begin", "no_repeat_ngram", "encoder_repetition", "dry"}
    assert set(names) >= plugins & set(installed.entries)


@pytest.mark.parametrize("form", ["rank", "halve", "sort"])
def test_every_form_gives_the_tokens_of_the_host(form, installed):
    chance = random.Random(9)
    for vocabulary, chain in ((40, ["top_p"]), (V, ["top_k"]), (V, ["temperature", "top_p"])):
        reducer = Reducer(vocabulary, form=form, threads=1)
        rows = [[made(installed, name, chance) for name in chain] for _ in range(8)]
        tally = compare(rows, reducer, chance, steps=6)
        assert not tally.differing and not tally.edges and tally.in_graph > 0, tally
    reducer = Reducer(40, form=form, threads=1)
    for p in (0.0, 1e-9, 0.5, 1 - 1e-9):  # equals at the edge, and a nucleus of all
        for logits in (np.zeros((1, 40), np.float32), np.asarray([[3.0] * 4 + [1.0] * 36], np.float32)):
            (found,) = reduced(reducer, [[TopP(p)]], logits)
            kept = TopP(p).process(logits, None, ())[0] > -np.inf
            assert found is None or found.ids[0, : len(found.raw)].tolist() == np.flatnonzero(kept).tolist()


def test_only_halving_finds_the_edge_of_a_nucleus_wider_than_what_crosses():
    """So a narrower one behind it still crosses; with the others the host takes the row, as exactly."""
    logits, chain = logits_of(2, scale=0.1), [TopP(0.9), TopK(5)]
    for form, crosses in (("rank", False), ("halve", True), ("sort", True)):
        found = reduced(Reducer(V, form=form), [chain] * 2, logits)
        assert [one is not None for one in found] == [crosses] * 2


def test_of_equals_greedy_takes_the_first_and_one_id_crosses(reducer):
    logits = np.zeros((2, V), np.float32)
    logits[1, [5, 700]] = 2.0
    plan = reducer.plan([Greedy()])
    assert [one.ids.tolist() for one in reducer.reduce([plan] * 2, logits)] == [[[0]], [[5]]]
    assert plan.graph.most == 1 and plan.graph.row_bytes() == 24


def test_ids_beyond_the_vocabulary_and_twice_and_none_at_all(reducer):
    chains = [[LogitBias({1: 50.0, V: 5.0, V + 9: 1.0}), TopK(3)], [LogitBias({}), TopK(3)]]
    logits, answers = logits_of(2), [Answer([4, 4, 4, 2], Sampler(tuple(chain)), ()) for chain in chains]
    plans = [reducer.plan(chain) for chain in chains]
    told = [plan.told(one.history, one.states) for plan, one in zip(plans, answers, strict=True)]
    for row, found in enumerate(reducer.reduce(plans, logits, told)):
        step = answers[row].step(logits[row : row + 1])
        (_, stage), _, _ = Sampler(tuple(chains[row])).shape(logits[row : row + 1], step, ((), ()))
        alive = stage.logits[0] > -np.inf
        assert found.ids[0].tolist() == stage.ids[0][alive].tolist()
        assert found.logits[0].tolist() == stage.logits[0][alive].tolist()


def test_a_mask_is_an_eighth_of_a_byte_a_token():
    """All sizes of a last byte, masks that are too short and too long, and none."""
    for vocabulary in (8, 9, 15, 16):
        reducer, logits = Reducer(vocabulary), logits_of(4, vocabulary)
        plan = reducer.plan([Masked(())])
        masks = [mask_of(np.asarray([1, 5]), 6), mask_of(np.asarray([2, 7, 30]), 40), None, np.uint8([129])]
        kept = [[1, 5], [2, 7], list(range(vocabulary)), [0, 7]]
        found = reducer.reduce([plan] * 4, logits, [{0: mask} for mask in masks])
        assert [one.ids[0, : len(one.raw)].tolist() for one in found] == kept
        assert plan.graph.session.shapes["mask.0"][1] == -(-vocabulary // 8)


def test_a_strategy_that_fails_to_say_fails_its_request_alone():
    chains = {"good": [RepetitionPenalty(1.3), TopK(9)], "bad": [BreaksLater(), TopK(9)]}
    with decodekit.load(IN_PLACE, sampling="graph") as decoder:
        streams = {n: decoder.stream("a", chain, seed=1, max_new_tokens=9) for n, chain in chains.items()}
        with pytest.raises(StrategyError, match="BreaksLater.*no table.* at token 2"):
            list(streams["bad"])
        text = "".join(streams["good"])
        assert decoder.engine.reducer.rows >= 8
    with decodekit.load(IN_PLACE) as decoder:
        assert text == decoder.generate("a", chains["good"], seed=1, max_new_tokens=9).text


def test_rows_with_more_candidates_than_cross_take_the_full_row(installed, names):
    chance = random.Random(3)
    tally = compare(
        [[made(installed, name, chance)] for name in ("top_p", "top_k", "min_p")] * 2,
        Reducer(V, most=4),
        chance,
        steps=20,
    )
    assert 0 < tally.overflows < tally.tokens and not tally.differing, tally.differing


def test_candidates_are_the_survivors_in_order_of_id(reducer):
    logits = logits_of(1)
    (found,) = reduced(reducer, [[TopK(5)]], logits)
    best = np.sort(np.argsort(-logits[0])[:5])
    assert found.ids[0].tolist() == best.tolist() and found.done == 1
    assert found.logits[0].tolist() == logits[0, best].tolist() == found.raw.tolist()


def test_exactly_as_many_as_cross_still_cross():
    logits = logits_of(1)
    assert reduced(Reducer(V, most=7), [[TopK(7)]], logits)[0] is not None
    assert reduced(Reducer(V, most=7), [[TopK(8)]], logits)[0] is None


@pytest.mark.parametrize("vocabulary", [3, 200])
def test_a_vocabulary_smaller_than_what_crosses(vocabulary):
    chance = random.Random(5)
    tally = compare([[TopP(0.7)], [Temperature(2.0)]], Reducer(vocabulary), chance, steps=10)
    assert tally.in_graph == tally.tokens == 20 and not tally.differing


def test_half_precision_is_computed_in_single():
    logits = logits_of(2).astype(np.float16)
    half, single = Reducer(V, dtype=np.float16), Reducer(V)
    chains = [[Temperature(0.7), TopP(0.8)], [Temperature(0.9), TopP(0.5)]]
    for one, other in zip(
        reduced(half, chains, logits), reduced(single, chains, logits.astype(np.float32)), strict=True
    ):
        assert one.ids.tolist() == other.ids.tolist() and one.logits.tolist() == other.logits.tolist()


def test_what_crosses_at_a_large_vocabulary():
    vocabulary = 151_936
    reducer = Reducer(vocabulary)
    plan = reducer.plan([Temperature(0.8), MinP(0.05)])
    outputs = plan.graph.session.run(
        ("ids", "raw", "shaped", "counts", "masses"),
        {
            "logits": logits_of(2, vocabulary),
            "rows": np.arange(2),
            "parameters": np.asarray([plan.values] * 2),
        },
    )
    crossing = sum(array.nbytes for array in outputs) / 2
    assert crossing == plan.graph.row_bytes() == 4 * (3 * 256 + 2 + 2) <= 16_000 < 4 * vocabulary


def test_chains_of_one_shape_share_a_graph_whatever_their_parameters(reducer):
    plans = [reducer.plan([Temperature(t), TopP(p)]) for t, p in ((0.5, 0.9), (0.6, 0.2), (1.7, 0.999))]
    assert plans[0].graph is plans[1].graph is plans[2].graph
    neutral = reducer.plan([Temperature(1.0), TopP(0.9)])  # returns its input: another graph
    assert neutral.graph is not plans[0].graph and neutral.done == 2


def test_a_number_that_is_asked_for_belongs_to_the_graph(reducer):
    one, other, again = (reducer.plan([Sharpened(s), TopK(9)]) for s in (0.5, 1.0, 0.5))
    assert one.graph is again.graph is not other.graph
    logits = logits_of(1)
    for plan, s in ((one, 0.5), (other, 1.0)):
        (found,) = reducer.reduce([plan], logits)
        assert np.allclose(found.logits, found.raw * math.exp(s), rtol=1e-6)


def test_graphs_for_single_values_are_not_compiled_for_ever():
    reducer = Reducer(50)
    plans = [reducer.plan([Sharpened(i / 100)]) for i in range(MAX_VARIANTS + 3)]
    assert [plan.done for plan in plans] == [1] * MAX_VARIANTS + [0] * 3
    assert "each for other values" in plans[-1].why


def test_what_is_kept_compiled_is_bounded(monkeypatch):
    monkeypatch.setattr(reducer_module, "MAX_GRAPHS", 2)
    reducer = Reducer(50)
    first = reducer.plan([TopK(3)])
    for chain in ([MinP(0.1)], [TopP(0.5)], [Temperature(0.5)]):
        reducer.plan(chain)
    assert len(reducer._compiled) == 2
    assert reducer.plan([TopK(3)]).graph is not first.graph


def test_chains_of_several_shapes_in_one_step(reducer):
    logits = logits_of(5)
    chains = [[TopK(5)], [TopP(0.5)], [RepetitionPenalty(1.2)], [TopK(7)], [Typical(0.3)]]
    found = reduced(reducer, chains, logits)
    assert [some and len(some.raw) for some in (found[0], found[3])] == [5, 7] and found[2] is None
    for row in (0, 1, 3, 4):
        expected = Sampler(tuple(chains[row])).draw(
            logits[row : row + 1], Answer([1], Sampler(), ()).step(logits[row : row + 1]), ((),)
        )
        assert (
            found[row].ids[0].tolist()
            == expected.stages[0].ids[0, expected.stages[0].logits[0] > -np.inf].tolist()
        )


@pytest.mark.parametrize(
    ("chain", "where"),
    [
        (
            [TopK(5), OnlyNumPy(), TopP(0.5)],
            ["graph", "host: no graph can be made of it (", "host: it follows 1"],
        ),
        ([RepetitionPenalty(1.2), TopK(5), LogitBias({3: 1.0})], ["graph", "graph", "graph"]),
        ([TopK(5), Counts()], ["graph", "host: it asks for step.counts"]),
        ([TopK(5), Learns()], ["graph", "host: it learns from the tokens"]),
        ([Greedy(), TopK(5)], ["graph", "host: it follows one that leaves the best alone"]),
        (
            [Broken(), TopK(5)],
            ["host: a trial of it fails (StrategyError: Broken() raised", "host: it follows 0"],
        ),
        ([Even(), TopK(5)], ["graph", "graph"]),
        ([TopK(5), Deceives()], ["graph", "host: its graph gives other numbers than NumPy"]),
        ([Deceives()], ["host: its graph gives other numbers than NumPy"]),
        ([Doubles()], ["host: it gives float64"]),
        ([Greedy()], ["graph"]),
    ],
)
def test_where_a_stage_runs_and_why(chain, where, reducer):
    found = stages([str(i) for i in range(len(chain))], chain, reducer)
    assert all(str(stage).startswith(expected) for stage, expected in zip(found, where, strict=True)), found


def test_logits_that_are_no_numbers_are_left_to_the_host(reducer):
    logits = logits_of(3)
    logits[0, 7], logits[1] = np.nan, -np.inf
    logits[2, 3] = np.inf
    assert reduced(reducer, [[TopK(5)]] * 3, logits) == [None] * 3


def test_a_request_whose_candidates_are_always_too_many_stays_on_the_host():
    reducer = Reducer(V, most=8)
    plan, logits = reducer.plan([TopK(20)]), logits_of(1)
    for _ in range(PATIENCE + 3):
        assert reducer.reduce([plan], logits) == [None]
    assert reducer.rows == reducer.missed == PATIENCE


@pytest.mark.parametrize(
    ("counts", "width"), [([1000], 1000), ([251], 1000), ([250], 250), ([250, 63], 250), ([250, 62], 62)]
)
def test_widths_in_records_are_those_of_the_host(counts, width):
    assert width_on_host(counts, [TopK(5)] * len(counts), 1000) == width
    assert width_on_host([1], [Greedy()], 1000) == 1


def decoded(sampling, chain, **options):
    with decodekit.load(IN_PLACE, sampling=sampling) as decoder:
        prompts = ["the cat", "a", "b c d e f g"]
        found = decoder.generate(prompts, chain, n=2, seed=5, max_new_tokens=30, **options)
        reducer = decoder.engine.reducer
        return [(c.text, [(t.id, t.width) for t in c.tokens]) for c in found], reducer and reducer.rows


@pytest.mark.parametrize(
    ("chain", "options"),
    [
        ("temperature=0.9, top_k=40, top_p=0.9", {}),
        ("top_p=0.8, repetition_penalty=1.3, top_k=5", {}),
        ("greedy", {"ignore_eos": True}),
        ('repetition_penalty=1.3, logit_bias={"30": 3}, temperature=0.9, top_p=0.7', {}),
        ("top_k=20", {"min_new_tokens": 12}),
        ("regex=[a-e ]{9,40}, no_repeat_ngram=2, top_k=8", {}),
        ("presence_penalty=0.5, top_k=20", {"speculate": "lookup"}),
        ("top_k=20, min_p=0.01", {"stop": ["e"]}),
    ],
)
def test_a_decoder_gives_the_same_either_way(chain, options):
    host, none = decoded("host", chain, **options)
    graph, rows = decoded("graph", chain, **options)
    assert graph == host and none is None and rows > 0


def test_log_probabilities_are_of_all_candidates_so_the_host_looks():
    host, _ = decoded("host", "top_k=20", logprobs=3)
    graph, rows = decoded("graph", "top_k=20", logprobs=3)
    assert graph == host and rows == 0


def test_neighbours_with_other_chains_share_a_step():
    chains = ["top_k=9", "top_k=5, temperature=0.7", "typical=0.5", "repetition_penalty=1.2, top_k=9"] * 2
    answers = {}
    for sampling in ("host", "graph"):
        with decodekit.load(IN_PLACE, sampling=sampling) as decoder:
            streams = [
                decoder.stream("a", chain, seed=i, max_new_tokens=25) for i, chain in enumerate(chains)
            ]
            answers[sampling] = ["".join(stream) for stream in streams]
    assert answers["graph"] == answers["host"]


def test_an_error_in_a_strategy_behind_the_graph_names_it(reducer):
    logits = logits_of(1)
    answer = Answer([1], Sampler((TopK(5), MinP(0.1))), ())
    (found,) = reduced(reducer, [[TopK(5)]], logits)
    assert answer.take(logits, found).id in found.ids
    logits[0, 3] = np.nan
    with pytest.raises(NumericalError):
        answer.take(logits, *reduced(reducer, [[TopK(5)]], logits))


def test_sampling_is_one_of_three():
    with pytest.raises(ParameterError, match="sampling must be one of 'auto', 'host', 'graph', got 'gpu'"):
        decodekit.load(IN_PLACE, sampling="gpu")


def test_on_the_cpu_the_host_is_faster_so_auto_takes_it():
    with decodekit.load(IN_PLACE, device="cpu") as decoder:
        assert decoder.engine.reducer is None


def test_without_what_traces_a_graph_is_refused_and_told(monkeypatch, run):
    monkeypatch.setattr(reducer_module, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="pip install 'decodekit\\[graph\\]'"):
        decodekit.load(IN_PLACE, sampling="graph")
    status, out, _ = run("inspect", "--chain", "top_k=5", str(IN_PLACE))
    assert status == 0 and "nothing traces it" in out


def test_inspect_tells_where_a_chain_runs(run):
    status, out, _ = run(
        "inspect", str(IN_PLACE), "--json", "--chain", "repetition_penalty=2, greedy, min_p=0.1"
    )
    assert status == 0
    found = json.loads(out)["chain"]
    assert [(one["name"], one["where"]) for one in found] == [
        ("repetition_penalty", "graph"),
        ("greedy", "graph"),
        ("min_p", "host"),
    ]
