"""
Chains and states: what is drawn from, through all the machinery, equals the references one after the other.

Removed columns are dropped between strategies here, rows have neighbours, and states move with every token.
"""

import math
from functools import partial

import numpy as np
import pytest
from exactness import reference, shaping_reference
from exactness.agreement import outside, probabilities
from exactness.definitions import definition
from exactness.reference import Row

from decodekit.history import History
from decodekit.plugins import load_plugins
from decodekit.processors import Step
from decodekit.sampling import Sampler

PLUGINS = load_plugins().logits_processors
VOCABULARY = 40
KINDS = 8  # ids that texts are made of
LIKELY = np.where(np.arange(VOCABULARY) < KINDS, 1.5, 0.0)  # so that some are left to be penalised
CHAINS = [
    "repetition_penalty=1.3 frequency_penalty=0.4 temperature=0.7 top_k=12 top_p=0.9",
    "top_k=5 repetition_penalty=1.7 presence_penalty=1.5 min_p=0.2",
    "top_k=6 frequency_penalty=-0.5 top_p=0.8 temperature=1.8",
    "min_p=0.3 repetition_penalty=1.7 frequency_penalty=0.6 top_p=0.9",
    "top_p=0.5 temperature=2 top_p=0.5 min_p=0.3",
    "temperature=2.5 min_p=0.3 typical=0.6 temperature=0.5",
    "min_p=0.1 temperature=3 top_k=4 typical=0.5",
    "no_repeat_ngram=1 top_k=7 top_n_sigma=1 eta=0.3",
    "top_k=9 dry=1.5 encoder_repetition=1.5 epsilon=0.1",
    "top_k=8 tail_free=0.6 p_less_norm skew=0.7",
    "top_k=8 dynamic_temperature.low=0.3,dynamic_temperature.high=2.5 top_h=0.7 smoothing=0.3",
    "top_a=0.3 xtc_expected.probability=0.5,xtc_expected.threshold=0.1 p_less",
]


def parsed(text):
    """(name, parameters) of every strategy: the first parameter by its value, others by name."""
    for part in text.split():
        parameters = {}
        for assignment in part.split(","):
            target, _, value = assignment.partition("=")
            name, _, parameter = target.partition(".")
            if value:
                parameters[parameter or first_parameter(name)] = float(value) if "." in value else int(value)
        yield name, parameters


def first_parameter(name):
    return next(iter(PLUGINS.bound(name, 0.5 if name not in ("top_k", "no_repeat_ngram") else 1)))


def texts(rng, batch):
    for i in range(batch):
        ids = rng.integers(0, KINDS, 4 + i)  # few kinds, so that they repeat
        yield History(ids, asked=2 + i % 3, seed=i)


@pytest.mark.parametrize("text", CHAINS)
def test_a_chain_is_its_definitions_one_after_the_other(text):
    chain = list(parsed(text))
    if missing := [name for name, _ in chain if name not in PLUGINS.entries]:
        pytest.skip(f"{missing[0]} is not installed")
    rng = np.random.default_rng(CHAINS.index(text))
    for _ in range(20):
        logits = (rng.standard_normal((4, VOCABULARY)) * 2 + LIKELY).astype(np.float32)
        rows = tuple(texts(rng, len(logits)))
        sampler = Sampler(tuple(PLUGINS.create(name, **parameters) for name, parameters in chain))
        step = Step.dense(rows, VOCABULARY)
        _, left, shaped = sampler.shape(logits, step, sampler.init(len(rows)))
        for i, row in enumerate(rows):
            expected = logits[i].astype(float).tolist()
            for name, parameters in chain:
                before = Row(expected, list(range(VOCABULARY)), row.prompt.tolist(), row.generated.tolist())
                expected = definition(name)(before, **parameters)
            spread = np.full((1, VOCABULARY), -np.inf)
            alive = left[i] > -np.inf
            spread[0, shaped.ids[i][alive]] = left[i][alive]
            assert not len(outside(spread, np.asarray([expected]))), f"{spread[0]} is not {expected}"


def run(strategy, steps=40, batch=3):
    """Each step's logits, what the strategy made of them, the state it had, and the columns drawn."""
    rng = np.random.default_rng(5)
    sampler = Sampler((strategy,), compact=False)
    states = sampler.init(batch)
    for position in range(steps):
        logits = (rng.standard_normal((batch, 12)) * 2).astype(np.float32)
        rows = tuple(History(np.zeros(position, np.int64), 0, seed=i) for i in range(batch))
        draw = sampler.draw(logits, Step.dense(rows, 12), states)
        yield logits.astype(float), draw.stages[0].logits, states[0], draw.tokens, draw.states[0]
        states = draw.states


def row_of(logits):
    return Row(logits.tolist(), list(range(len(logits))), [], [])


@pytest.mark.parametrize(
    ("name", "options", "truncation"),
    [
        ("mirostat", {}, reference.mirostat),
        ("mirostat_v1", {"m": 100}, reference.mirostat_v1),
        ("mirostat_v1", {"m": 5}, reference.mirostat_v1),
    ],
)
@pytest.mark.parametrize(("tau", "eta"), [(1.0, 0.5), (2.5, 0.1), (0.3, 1.0)])
def test_mirostat_is_its_definition_over_a_text(name, options, truncation, tau, eta):
    if name not in PLUGINS.entries:
        pytest.skip(f"{name} is not installed")
    expected_mu = np.full(3, 2 * tau)
    for logits, shaped, mu, tokens, after in run(PLUGINS.create(name, tau=tau, eta=eta, **options)):
        assert mu[:, 0] == pytest.approx(expected_mu, abs=1e-5)
        for i in range(len(logits)):
            cut = partial(truncation, row_of(logits[i]), float(mu[i, 0]), **options)
            expected = [np.asarray([cut(edge=edge)]) for edge in (0.0, -1e-6, 1e-6)]
            assert any(not len(outside(shaped[i : i + 1], e)) for e in expected)
            moved = reference.mirostat_moved(
                shaped[i].astype(float).tolist(), tokens[i], expected_mu[i], tau, eta
            )
            expected_mu[i] = moved
        assert after[:, 0] == pytest.approx(expected_mu, abs=1e-5)


@pytest.mark.parametrize(("target", "decay"), [(0.3, 0.9), (0.8, 0.5), (0.05, 0.0), (0.5, 0.99)])
def test_adaptive_p_is_its_definition_over_a_text(target, decay):
    if "adaptive_p" not in PLUGINS.entries:
        pytest.skip("adaptive_p is not installed")
    chosen = [[] for _ in range(3)]
    for logits, shaped, _, tokens, _ in run(PLUGINS.create("adaptive_p", target=target, decay=decay)):
        for i, past in enumerate(chosen):
            ages = range(len(past) - 1, -1, -1)
            weight = math.fsum(decay**age for age in ages) + decay ** len(past) / (1 - decay)
            total = math.fsum(p * decay**age for p, age in zip(past, ages))
            mean = (total + target * decay ** len(past) / (1 - decay)) / weight
            goal = min(max(2 * target - mean, 0.0), 1.0)
            expected = np.asarray([shaping_reference.adaptive_p(row_of(logits[i]), goal)])
            assert probabilities(shaped[i : i + 1]) == pytest.approx(probabilities(expected), abs=2e-6)
            past.append(reference.softmax(logits[i].tolist())[tokens[i]])


def test_the_coin_of_xtc_is_keyed_by_its_place():
    if "xtc" not in PLUGINS.entries:
        pytest.skip("xtc is not installed")
    rng, strategy = np.random.default_rng(6), PLUGINS.create("xtc", probability=0.4, threshold=0.1)
    rows = tuple(History(np.zeros(i % 7, np.int64), 0, seed=i // 7, sample=i % 3) for i in range(300))
    logits = rng.standard_normal((300, 5)).astype(np.float32)
    shaped = strategy.process(logits, Step.dense(rows, 5), strategy.init(300))
    happens = [shaping_reference.coin(row.seed, row.sample, row.position, "xtc") < 0.4 for row in rows]
    expected = [
        shaping_reference.xtc(row_of(x.astype(float)), h, 0.1) for x, h in zip(logits, happens, strict=True)
    ]
    assert 80 < sum(happens) < 160
    assert not len(outside(shaped, np.asarray(expected)))
