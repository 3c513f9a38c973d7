"""
All texts of up to 5 of 3 tokens: every strategy that looks at the ids before equals its slow reference.

Columns are the whole vocabulary in order, or what a truncation left of it in any order.
"""

import itertools
import math
import os

import numpy as np
import pytest
from exactness import history_reference
from exactness.agreement import outside
from exactness.corners import OF_HISTORY
from exactness.reference import Row

from decodekit.history import History
from decodekit.plugins import load_plugins
from decodekit.processors import Step

SOAK = os.environ.get("DECODEKIT_SOAK") == "1"
PLUGINS = load_plugins().logits_processors
ALPHABET = 3
TEXTS = [text for size in range(6) for text in itertools.product(range(ALPHABET), repeat=size)]
PLACES = [(text, asked) for text in TEXTS for asked in range(len(text) + 1)]
COLUMNS = {"whole": [0, 1, 2, 3, 4], "left": [4, 1, 7, 0], "without": [9, 4]}
LOGITS = [(1.5, -0.5, 0.0, 2.0, -3.0), (-1.0, -math.inf, 0.3, 1.0, 0.0), (0.0, 2.5, -math.inf, -0.7, 1.0)]

BREAKERS = [b"a", b"b\n", b":", b"c", b" d"]  # the text of each token; two of them break


class Tokenizer:
    """What DRY asks a tokenizer: no breaker is spelt by several tokens."""

    size, token_bytes, special_ids = len(BREAKERS), BREAKERS, ()

    def encode_plain(self, text):
        return [0]


@pytest.mark.parametrize("columns", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("name", OF_HISTORY)
def test_a_strategy_is_its_definition_after_every_text(name, columns):
    if name not in PLUGINS.entries:
        pytest.skip(f"{name} is not installed")
    places = PLACES if SOAK or OF_HISTORY[name][0].get("multiplier") is None else PLACES[::3]
    width, batch = len(columns), len(places)
    rows = tuple(History(np.asarray(text, np.int64), asked) for text, asked in places)
    whole = columns == sorted(columns)
    step = (
        Step.dense(rows, width) if whole else Step(rows, np.broadcast_to(np.asarray(columns), (batch, width)))
    )
    logits = np.asarray([LOGITS[i % len(LOGITS)][:width] for i in range(batch)], np.float32)
    before = [
        Row(row, columns, list(text[:asked]), list(text[asked:]))
        for row, (text, asked) in zip(logits.astype(float).tolist(), places, strict=True)
    ]
    definition = getattr(history_reference, name)
    for corner in OF_HISTORY[name]:
        strategy = PLUGINS.create(name, **corner)
        shaped = strategy.process(logits, step, strategy.init(batch))
        expected = np.asarray([definition(row, **corner) for row in before])
        wrong = outside(shaped, expected)
        assert not len(wrong), (
            f"{corner}: {before[wrong[0]]} became {shaped[wrong[0]].tolist()}, "
            f"by the definition {expected[wrong[0]].tolist()}"
        )


@pytest.mark.parametrize("allowed_length", [1, 2, 3])
def test_no_repetition_reaches_across_a_breaker(allowed_length):
    if "dry" not in PLUGINS.entries:
        pytest.skip("dry is not installed")
    dry = PLUGINS.create("dry", multiplier=0.8, allowed_length=allowed_length).bind(Tokenizer())
    rows = tuple(History(np.asarray(text, np.int64), 0) for text in TEXTS)
    logits = np.zeros((len(TEXTS), 5), np.float32)
    shaped = dry.process(logits, Step.dense(rows, 5), dry.init(len(TEXTS)))
    before = [Row([0.0] * 5, list(range(5)), [], list(text)) for text in TEXTS]
    definition = history_reference.dry
    expected = [definition(row, 0.8, allowed_length=allowed_length, breakers=(1, 2)) for row in before]
    assert not len(outside(shaped, np.asarray(expected)))
