import hashlib
import math
import struct

import numpy as np
import pytest
from decodekit_watermark import GumbelWatermark, Kgw
from decodekit_watermark.context import secrets
from decodekit_watermark.gumbel import PURPOSE

from decodekit import noise
from decodekit.errors import ParameterError
from decodekit.processors import Step
from decodekit.testing import check_logits_processor, histories

MARKS = [
    Kgw(1),
    Kgw(2, h=3),
    Kgw(3, h=2, seeding="selfhash"),
    Kgw(0, gamma=0.9, delta=0.5),
    GumbelWatermark(1, h=1),
    GumbelWatermark(2**64 - 1, h=2),
]
LOGITS = np.random.default_rng(0).standard_normal((1, 40)).astype(np.float32)


def process(mark, answer, logits=LOGITS, ids=None, prompt=(1,)):
    rows = histories([*prompt, *answer], asked=len(prompt))
    step = Step.dense(rows, logits.shape[-1]) if ids is None else Step(rows, np.asarray(ids)[None])
    return mark.process(logits, step, ())


def hashed(key, context, purpose, id):
    """The secret number of a token, in plain Python."""
    digest = hashlib.blake2b(
        struct.pack(f"<{len(context)}q", *context), digest_size=16, key=struct.pack("<Q", key), person=purpose
    ).digest()
    multiplier, summand, *_ = struct.unpack("<4I", digest)
    return mixed(id * (multiplier | 1) + summand)


def mixed(x):
    x &= 0xFFFFFFFF
    x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
    x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
    return x ^ x >> 16


def green_by_hand(mark, context, id):
    if mark.seeding == "lefthash":
        number = hashed(mark.key, context, b"decodekit.kgw.1", id)
    else:
        seed = min(hashed(mark.key, [before], b"decodekit.kgw.2", id) for before in context)
        digest = hashlib.blake2b(
            b"", digest_size=16, key=struct.pack("<Q", mark.key), person=b"decodekit.kgw.3"
        ).digest()
        number = mixed(id * (struct.unpack("<4I", digest)[0] | 1) + seed)
    return number < mark.gamma * 2**32


@pytest.mark.parametrize("mark", MARKS, ids=repr)
def test_every_mark_keeps_the_contract(mark):
    check_logits_processor(mark)


@pytest.mark.parametrize("seeding", ["lefthash", "selfhash"])
@pytest.mark.parametrize("h", [1, 3])
def test_green_candidates_get_delta_and_no_others(seeding, h):
    mark, answer = Kgw(77, gamma=0.4, delta=1.5, h=h, seeding=seeding), [9, 4, 4, 30, 2]
    added = process(mark, answer)[0] - LOGITS[0]
    green = [green_by_hand(mark, answer[-h:], id) for id in range(40)]
    assert np.allclose(added, np.where(green, 1.5, 0), atol=1e-6) and 5 < sum(green) < 30


def test_gumbel_keeps_the_best_candidate_under_keyed_noise():
    mark, answer = GumbelWatermark(5, h=2), [7, 8, 9]
    digest = hashlib.blake2b(
        struct.pack("<2q", 8, 9), digest_size=16, key=struct.pack("<Q", 5), person=b"decodekit.gumbel"
    ).digest()
    keys = np.frombuffer(digest, "<u4")[None]
    best = int(np.argmax(LOGITS + noise.gumbel(keys, np.arange(40)[None])))
    out = process(mark, answer)
    assert np.flatnonzero(out[0] > -np.inf).tolist() == [best] and out[0, best] == LOGITS[0, best]


@pytest.mark.parametrize("mark", MARKS, ids=repr)
def test_the_first_tokens_and_the_prompt_are_not_marked(mark):
    before = process(mark, [3] * (mark.h - 1), prompt=[5, 6, 7, 8])
    assert np.array_equal(before, LOGITS)
    answer = [20, 21, 22, 23]
    assert not np.array_equal(process(mark, answer), LOGITS)
    assert np.array_equal(process(mark, answer, prompt=[1]), process(mark, answer, prompt=[2, 20, 21, 22]))


def test_gumbel_leaves_a_context_alone_that_comes_again():
    mark = GumbelWatermark(1, h=2)
    assert not np.array_equal(process(mark, [3, 4, 5, 6]), LOGITS)
    assert np.array_equal(process(mark, [3, 4, 5, 3, 4]), LOGITS)
    assert not np.array_equal(process(mark, [4, 5, 3, 4]), LOGITS), "(3, 4) comes the first time"
    assert np.array_equal(process(mark, [3, 3, 3]), LOGITS), "they may overlap"


@pytest.mark.parametrize("mark", MARKS, ids=repr)
def test_columns_that_were_dropped_make_no_difference(mark):
    answer, ids = [4, 9, 2, 7], [31, 3, 12, 25]
    few = process(mark, answer, LOGITS[:, ids], ids)
    many = LOGITS.copy()
    many[:, [i for i in range(40) if i not in ids]] = -np.inf
    assert np.array_equal(few, process(mark, answer, many)[:, ids])


def test_delta_zero_is_neutral():
    assert process(Kgw(1, delta=0), [1, 2, 3]) is LOGITS


@pytest.mark.parametrize("seeding", ["lefthash", "selfhash"])
@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_gamma_is_the_probability_of_green(seeding, gamma):
    mark, n = Kgw(12, gamma=gamma, h=2, seeding=seeding), 400 * 500
    contexts = np.random.default_rng(1).integers(0, 5000, (400, 2))
    share = mark.green(contexts, np.broadcast_to(np.arange(500), (400, 500))).mean()
    assert abs(share - gamma) < 5 * math.sqrt(gamma * (1 - gamma) / n)


def test_another_key_or_context_is_another_green_list():
    ids, context = np.arange(20_000)[None], np.asarray([[5, 6]])
    green = Kgw(1, gamma=0.5, h=2).green(context, ids)
    for key, other in ((2, context), (1, context[:, ::-1]), (1, context + 1)):
        agree = (green == Kgw(key, gamma=0.5, h=2).green(other, ids)).mean()
        assert abs(agree - 0.5) < 0.02


def test_over_keys_the_gumbel_mark_draws_from_the_distribution():
    logits = np.log(np.asarray([[0.5, 0.25, 0.15, 0.07, 0.03]], np.float32))
    n = 12_000
    drawn = [int(process(GumbelWatermark(key, h=1), [3], logits).argmax()) for key in range(n)]
    expected = np.exp(logits[0].astype(np.float64)) * n
    chi_square = ((np.bincount(drawn, minlength=5) - expected) ** 2 / expected).sum()
    assert chi_square < 23.5  # 4 degrees of freedom: p = 1e-4


def test_over_a_large_vocabulary_the_choice_is_that_of_the_plain_form():
    logits = (np.random.default_rng(3).standard_normal((1, 50_000)) * 3).astype(np.float32)
    mark, ids = GumbelWatermark(9, h=1), np.arange(50_000)[None]
    for token in range(20):
        out = process(mark, [token], logits)[0]
        keys = secrets(9, [np.asarray([token])], PURPOSE)
        assert np.flatnonzero(out > -np.inf).tolist() == [np.argmax(logits + noise.gumbel(keys, ids))]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kgw(-1), r"kgw: key must be in \[0, 18446744073709551616\), got -1"),
        (lambda: Kgw("secret"), r"kgw: key must be a whole number"),
        (lambda: Kgw(2**64), "kgw: key must be in"),
        (lambda: Kgw(1, gamma=1), r"kgw: gamma must be in \(0, 1\), got 1"),
        (lambda: Kgw(1, gamma=0.0), r"kgw: gamma must be in \(0, 1\), got 0.0"),
        (lambda: Kgw(1, delta=math.inf), r"kgw: delta must be in \[0, 100\], got inf"),
        (lambda: Kgw(1, h=0), r"kgw: h must be in \[1, 16\], got 0"),
        (lambda: Kgw(1, seeding="right"), r"kgw: seeding must be 'lefthash' or 'selfhash', got 'right'"),
        (lambda: Kgw(1, seeding=[]), r"kgw: seeding must be"),
        (lambda: GumbelWatermark(1.5), "gumbel_watermark: key must be a whole number"),
        (lambda: GumbelWatermark(1, 17), r"gumbel_watermark: h must be in \[1, 16\], got 17"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
