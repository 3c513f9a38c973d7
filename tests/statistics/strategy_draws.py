"""Many draws of each strategy beside the probabilities of the slow references in tests/exactness."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from chi_square import chi_square
from exactness import reference, shaping_reference
from exactness.definitions import definition, looks_back
from exactness.reference import Row

from decodekit import noise
from decodekit.drawing import sample
from decodekit.history import History
from decodekit.plugins import load_plugins
from decodekit.processors import Step
from decodekit.sampling import Sampler
from decodekit.strategies.top_k import top_k

K = 16  # candidates
DEAD = 11  # the one that is removed before
WIDE = 8192  # candidates from which the draw is pruned
BATCH = 50_000
TEXT = [1, 2, 3, 1, 2, 8, 1, 2]  # of which the first three are the prompt
LOGITS = np.random.default_rng(7).standard_normal(K).astype(np.float32) * np.float32(1.5)
LOGITS[DEAD] = -np.inf

STRATEGIES = {
    "no strategy": [],
    "temperature": [("temperature", {"t": 0.7})],
    "top_k": [("top_k", {"k": 5})],
    "top_p": [("top_p", {"p": 0.8})],
    "min_p": [("min_p", {"p": 0.1})],
    "typical": [("typical", {"p": 0.7})],
    "epsilon": [("epsilon", {"epsilon": 0.03})],
    "eta": [("eta", {"epsilon": 0.2})],
    "top_a": [("top_a", {"a": 0.5})],
    "tail_free": [("tail_free", {"z": 0.9})],
    "top_n_sigma": [("top_n_sigma", {"n": 1.5})],
    "top_h": [("top_h", {"alpha": 0.8})],
    "p_less": [("temperature", {"t": 2.5}), ("p_less", {})],
    "p_less_norm": [("temperature", {"t": 2.5}), ("p_less_norm", {})],
    "dynamic_temperature": [("dynamic_temperature", {"low": 0.3, "high": 2.0})],
    "smoothing": [("smoothing", {"factor": 0.3, "curve": 1.5})],
    "skew": [("skew", {"s": 0.5})],
    "xtc": [("xtc", {"probability": 0.5, "threshold": 0.1})],
    "xtc_expected": [("xtc_expected", {"probability": 0.5, "threshold": 0.1})],
    "mirostat": [("mirostat", {"tau": 2.0})],
    "mirostat_v1": [("mirostat_v1", {"tau": 2.5})],
    "adaptive_p": [("adaptive_p", {"target": 0.3})],
    "repetition_penalty": [("repetition_penalty", {"theta": 1.5})],
    "frequency_penalty": [("frequency_penalty", {"f": 0.7})],
    "presence_penalty": [("presence_penalty", {"f": 1.5})],
    "encoder_repetition": [("encoder_repetition", {"theta": 1.5})],
    "logit_bias": [("logit_bias", {"bias": {0: 2.0, 5: -1.0}})],
    "no_repeat_ngram": [("no_repeat_ngram", {"n": 3})],
    "dry": [("dry", {"multiplier": 1.5})],
    "sequence_bias": [("sequence_bias", {"sequences": [{"tokens": [1, 2, 4], "bias": 2.0}]})],
    "a chain": [
        ("temperature", {"t": 1.5}),
        ("min_p", {"p": 0.1}),
        ("top_k", {"k": 6}),
        ("top_p", {"p": 0.9}),
    ],
}
FIRST_STEP = {
    "xtc": shaping_reference.xtc_expected,
    "mirostat": lambda row, tau: reference.mirostat(row, 2 * tau),
    "mirostat_v1": lambda row, tau: reference.mirostat_v1(row, 2 * tau, m=100),
    "adaptive_p": lambda row, target: shaping_reference.adaptive_p(row, target),
}


@dataclass(frozen=True)
class Place:
    """Many rows that differ in where they are: seed, then sample, then position, which is the fastest."""

    samples: int = 2
    positions: int = 2

    def rows(self, draws):
        text = np.asarray(TEXT * 2, np.int64)
        for i in range(draws):
            seed, rest = divmod(i, self.samples * self.positions)
            sample, position = divmod(rest, self.positions)
            yield History(text[: len(TEXT) + position], 3, seed, sample)


@cache
def batches(place, draws):
    rows = tuple(place.rows(draws))
    return [rows[begin : begin + BATCH] for begin in range(0, draws, BATCH)]


def drawn(chain, place, draws):
    """The tokens of so many draws, int [draws]."""
    plugins = load_plugins().logits_processors
    sampler = Sampler(tuple(plugins.create(name, **options) for name, options in chain))
    tokens = []
    for rows in batches(place, draws):
        step = Step.dense(rows, K)
        tokens.append(sampler.draw(np.tile(LOGITS, (len(rows), 1)), step, sampler.init(len(rows))).tokens)
    return np.concatenate(tokens)


def expected(chain):
    """The probabilities of the K candidates by the slow references."""
    logits = LOGITS.astype(float).tolist()
    for name, options in chain:
        row = Row(logits, list(range(K)), TEXT[:3], TEXT[3:])
        logits = FIRST_STEP.get(name, definition(name))(row, **options)
    return np.asarray(reference.softmax(logits))


def measure_strategy(name, draws):
    chain = STRATEGIES[name]
    place = Place(4, 1) if any(looks_back(strategy) for strategy, _ in chain) else Place()
    counts = np.bincount(drawn(chain, place, draws), minlength=K)
    return compared(counts, expected(chain))


def measure_many(draws):
    """The pruned draw behind a truncation: WIDE candidates, counted in K classes."""
    logits = (np.random.default_rng(8).standard_normal(WIDE) * 2).astype(np.float32)
    classes, left = np.arange(WIDE) % (K - 1), top_k(logits[None], WIDE // 2)[0]
    classes[left == -np.inf] = K - 1
    p = np.bincount(classes, reference.softmax(left.astype(float).tolist()), minlength=K)
    counts = np.zeros(K, np.int64)
    for i in range(draws):
        rows = (History(np.asarray(TEXT), 3, i),)
        token = sample(left[None], noise.keys(rows), np.arange(WIDE)[None])
        counts += np.bincount(classes[token], minlength=K)
    return compared(counts, p)


def compared(counts, p):
    """Figures of counts [K] where probabilities are expected."""
    draws = int(counts.sum())
    return {
        "draws": draws,
        "candidates": int(np.count_nonzero(p)),
        "total_variation": float(np.abs(counts / draws - p).sum() / 2),
        "p_value": chi_square(counts, draws * p),
        "outside": int(counts[p == 0].sum()),
    }
