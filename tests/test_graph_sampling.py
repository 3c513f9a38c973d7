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
from decodekit.errors import DeviceError, NumericalError, ParameterError
from decodekit.graph_sampling import reducer as reducer_module
from decodekit.graph_sampling.candidates import width_on_host
from decodekit.graph_sampling.reducer import MAX_VARIANTS, PATIENCE, Reducer
from decodekit.graph_sampling.stages import stages
from decodekit.ops import array_namespace, keep
from decodekit.parameters import Real
from decodekit.plugins import load_plugins
from decodekit.processors import LogitsProcessor
from decodekit.sampling import Sampler
from decodekit.strategies.greedy import Greedy
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


def logits_of(rows, vocabulary=V, scale=4.0, seed=0):
    return (np.random.default_rng(seed).standard_normal((rows, vocabulary)) * scale).astype(np.float32)


def reduced(reducer, chains, logits):
    return reducer.reduce([reducer.plan(chain) for chain in chains], logits)


@pytest.fixture(scope="module")
def reducer():
    return Reducer(V)


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
        ([TopK(5), RepetitionPenalty(1.2)], ["graph", "host: it asks for step.rows"]),
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
        ("top_k=20", {"speculate": "lookup"}),
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
        "inspect", str(IN_PLACE), "--json", "--chain", "top_k=5, repetition_penalty=2, min_p=0.1"
    )
    assert status == 0
    found = json.loads(out)["chain"]
    assert [(one["name"], one["where"]) for one in found] == [
        ("top_k", "graph"),
        ("repetition_penalty", "host"),
        ("min_p", "host"),
    ]
