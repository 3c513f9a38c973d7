import hashlib
import math
import struct

import numpy as np
import pytest

from decodekit import noise
from decodekit.history import History


def row(seed=0, sample=0, position=3):
    return History(np.zeros(position, np.int64), 1, seed, sample)


def written_out(seed, sample, position, id):
    """The definition of the draw, in whole numbers."""
    digest = hashlib.blake2b(
        struct.pack("<QQQ", seed, sample, position), digest_size=16, person=b"decodekit.draw.1"
    ).digest()
    key = struct.unpack("<4I", digest)

    def mixed(x):
        x = (x ^ x >> 16) * 0x7FEB352D % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        return x ^ x >> 16

    high = mixed((id * (key[0] | 1) + key[1]) % 2**32)
    low = mixed((id * (key[2] | 1) + key[3]) % 2**32)
    uniform = ((high << 20 | low >> 12) + 0.5) * 2.0**-52
    return -math.log(-math.log(uniform))


@pytest.mark.parametrize("place", [(0, 0, 0), (42, 1, 3), (2**64 - 1, 127, 100_000)])
def test_the_noise_is_the_written_definition(place):
    seed, sample, position = place
    ids = np.asarray([[0, 1, 511, 151_935]])
    ours = noise.gumbel(noise.keys((row(seed, sample, position),)), ids)[0]
    assert ours == pytest.approx([written_out(*place, int(id)) for id in ids[0]], rel=1e-12)


def test_recorded_seeds_keep_their_noise():
    ours = noise.gumbel(noise.keys((row(42, 1, 3),)), np.arange(3)[None])[0]
    assert ours == pytest.approx([0.9118965789409264, 3.332747682207532, -0.23278854688604328], rel=1e-12)


def test_noise_is_a_function_of_its_place():
    ids = np.arange(100)[None]
    here = noise.gumbel(noise.keys((row(7),)), ids)
    assert np.array_equal(here, noise.gumbel(noise.keys((row(7),)), ids))
    for other in (row(8), row(7, sample=1), row(7, position=4)):
        assert not np.isclose(here, noise.gumbel(noise.keys((other,)), ids)).any()


def test_noise_follows_the_id_not_the_column():
    keys, ids = noise.keys((row(),)), np.arange(1000)[None]
    order = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(noise.gumbel(keys, ids)[:, order], noise.gumbel(keys, ids[:, order]))


def test_noise_is_finite_for_every_hash():
    extreme = (np.asarray([0, 2**52 - 1], np.uint64).astype(np.float64) + 0.5) * 2.0**-52
    assert np.isfinite(-np.log(-np.log(extreme))).all()


def test_noise_grows_with_the_leading_bits():
    keys, ids = noise.keys((row(),)), np.arange(5000)[None]
    order = np.argsort(noise.high_bits(keys, ids)[0])
    assert (np.diff(noise.gumbel(keys, ids)[0][order]) >= 0).all()


def test_noise_is_gumbel_distributed():
    """Kolmogorov-Smirnov distance of 400,000 values; 4 standard errors would be 0.0026."""
    keys = noise.keys(tuple(row(seed=s, position=p) for s in range(20) for p in range(20)))
    values = np.sort(noise.gumbel(keys, np.broadcast_to(np.arange(1000), (400, 1000))).ravel())
    expected = np.exp(-np.exp(-values))
    distance = np.abs(expected - (np.arange(len(values)) + 0.5) / len(values)).max()
    assert distance < 0.0026


def test_neighbouring_seeds_samples_and_positions_are_uncorrelated():
    ids = np.arange(20_000)[None]

    def uniform(history):
        return np.exp(-np.exp(-noise.gumbel(noise.keys((history,)), ids)[0]))

    base = uniform(row())
    for other in (row(seed=1), row(sample=1), row(position=4), row(seed=2**63)):
        correlation = np.corrcoef(base, uniform(other))[0, 1]
        assert abs(correlation) < 4 / np.sqrt(len(base))  # 4 standard errors


def test_a_coin_is_a_function_of_place_and_purpose():
    rows = tuple(
        row(seed, sample, position) for seed, sample, position in [(0, 0, 3), (1, 0, 3), (0, 1, 3), (0, 0, 4)]
    )
    coins = noise.uniform(rows, "xtc")
    assert coins.shape == (4, 1) and ((coins > 0) & (coins < 1)).all()
    assert len(set(coins[:, 0])) == 4
    assert np.array_equal(coins[1:2], noise.uniform(rows[1:2], "xtc"))
    assert not (coins == noise.uniform(rows, "other")).any()


def test_coins_are_uniform_and_independent_of_the_draw():
    rows = tuple(row(seed) for seed in range(20_000))
    coins = noise.uniform(rows, "xtc")[:, 0]
    counts = np.bincount((coins * 16).astype(int), minlength=16)
    assert ((counts - 1250) ** 2 / 1250).sum() < 44.3  # chi-square, 15 degrees, 1e-4
    draws = noise.gumbel(noise.keys(rows), np.zeros((len(rows), 1), int))[:, 0]
    assert abs(np.corrcoef(coins, draws)[0, 1]) < 4 / np.sqrt(len(rows))
