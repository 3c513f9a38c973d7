import json
import math
from dataclasses import replace
from functools import cache
from math import comb

import numpy as np
import pytest
from decodekit_watermark import Detection, GumbelWatermark, Kgw, detect
from decodekit_watermark.tails import binomial_tail, gamma_tail

import decodekit
from decodekit import Sampler, cli, stream
from decodekit.bundle import EMBEDDED
from decodekit.errors import ParameterError
from decodekit.plugins import load_plugins
from decodekit.strategies.max_new_tokens import MaxNewTokens
from decodekit.testing import TableModel
from decodekit.tokenizer import Tokenizer

PROMPT = "Give me a tagline for a new coffee shop."
MARKS = [
    Kgw(7),
    Kgw(7, h=4),
    Kgw(7, gamma=0.5, h=3, seeding="selfhash"),
    GumbelWatermark(7, h=1),
    GumbelWatermark(7),
]
TABLE = (np.random.default_rng(0).standard_normal((300, 300)) * 1.5).astype(np.float32)


@cache
def answer(mark, seed=0, length=150):
    """Ids that a bigram model with some entropy draws under a mark."""
    sampler = Sampler((mark,) if mark else ())
    tokens = stream(TableModel(TABLE), [1], sampler, [MaxNewTokens(length)], seed=seed)
    return tuple(token.id for token in tokens)


def with_edits(ids, share, rng):
    """A share of the tokens replaced by others."""
    return np.where(rng.random(len(ids)) < share, rng.integers(0, 300, len(ids)), ids)


def test_binomial_tail_is_the_sum_of_its_terms():
    for n, p in ((1, 0.5), (10, 0.25), (40, 0.9)):
        for k in range(n + 1):
            exact = sum(comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
            assert binomial_tail(k, n, p) == pytest.approx(exact, rel=1e-10)
    assert binomial_tail(0, 0, 0.3) == 1.0
    assert binomial_tail(5, 4, 0.3) == 0.0


def test_gamma_tail_is_that_of_a_sum_of_exponentials():
    assert gamma_tail(2.0, 1) == pytest.approx(math.exp(-2))
    assert gamma_tail(3.0, 2) == pytest.approx(math.exp(-3) * 4)
    assert gamma_tail(0.0, 5) == 1.0 and gamma_tail(0.0, 0) == 1.0
    sums = np.random.default_rng(0).exponential(size=(40_000, 7)).sum(axis=1)
    for x in (4.0, 7.0, 12.0):
        p = gamma_tail(x, 7)
        assert abs((sums >= x).mean() - p) < 5 * math.sqrt(p * (1 - p) / 40_000)
    assert 0 < gamma_tail(2000.0, 1000) < 1e-100, "far out it neither underflows early nor overflows"


@pytest.mark.parametrize("mark", MARKS, ids=repr)
def test_p_values_of_unmarked_texts_are_uniform(mark):
    rng, n = np.random.default_rng(5), 2000
    texts = np.minimum(rng.zipf(1.3, (n, 60)), 5000)  # a few tokens again and again, many seldom
    found = [replace(mark, key=int(rng.integers(2**63))).detect(text) for text in texts]
    p = np.asarray([each.p_value for each in found])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert (p <= level).mean() < level + 4 * math.sqrt(level * (1 - level) / n), "no more false alarms"
    if isinstance(mark, Kgw):  # the score is a count: what lies above it, and a random share of it
        above = [binomial_tail(int(each.score) + 1, each.tokens, mark.gamma) for each in found]
        p = above + rng.random(n) * (p - above)
    distance = np.abs(np.sort(p) - (np.arange(n) + 0.5) / n).max()
    assert distance < 1.95 / math.sqrt(n)  # Kolmogorov: p = 1e-3
    z = np.asarray([each.z for each in found])
    assert abs(z.mean()) < 4 / math.sqrt(n) and 0.9 < z.std() < 1.1


@pytest.mark.parametrize("mark", MARKS, ids=repr)
def test_a_marked_text_is_found_and_with_no_other_key(mark):
    for seed in range(5):
        ids = answer(mark, seed)
        assert detect(ids, mark).p_value < 1e-9
        assert detect(ids, replace(mark, key=8)).p_value > 1e-4
        assert detect(answer(None, seed), mark).p_value > 1e-4


@pytest.mark.parametrize("mark", MARKS, ids=repr)
def test_the_longer_a_text_the_surer(mark):
    z = [detect(answer(mark)[:length], mark).z for length in (20, 60, 150)]
    assert z == sorted(z)


@pytest.mark.parametrize("mark", MARKS, ids=repr)
def test_edits_weaken_the_evidence(mark):
    rng, ids = np.random.default_rng(2), np.asarray(answer(mark))
    edited = {}
    for share in (0.0, 0.1, 0.3):
        edited[share] = np.mean([mark.detect(with_edits(ids, share, rng)).z for _ in range(8)])
    assert edited[0.0] > edited[0.1] > edited[0.3]


def test_selfhash_survives_edits_that_lefthash_does_not():
    left = {}
    for seeding in ("lefthash", "selfhash"):
        mark, rng = Kgw(3, h=6, seeding=seeding), np.random.default_rng(4)
        ids = np.asarray(answer(mark, length=250))
        left[seeding] = mark.detect(with_edits(ids, 0.15, rng)).z / mark.detect(ids).z
    assert left["selfhash"] > left["lefthash"] + 0.1


def test_a_repeated_passage_counts_once():
    for mark in (Kgw(1, h=2), GumbelWatermark(1, h=2)):
        once, thrice = mark.detect(np.arange(20)), mark.detect(np.tile(np.arange(20), 3))
        assert once.tokens == 18 and thrice.tokens == 20, "and the two contexts over the seam"


def test_a_part_of_a_text_is_enough():
    for mark in MARKS:
        assert detect(answer(mark)[60:110], mark).p_value < 1e-4


def test_a_text_too_short_says_nothing():
    for mark in MARKS:
        assert detect([5] * mark.h, mark) == Detection(0, 0.0, 0.0, 0.0, 1.0)
        assert detect([], mark).p_value == 1.0


def test_answers_to_one_prompt_differ():
    for mark in MARKS:
        assert len({answer(mark, seed, 40) for seed in range(4)}) == 4


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load("tagline", plugins=load_plugins(only={"watermark"})) as decoder:
        yield decoder


@pytest.mark.parametrize(
    "chain", ["temperature=1.5, gumbel_watermark=42", "kgw.key=42, kgw.delta=4, temperature=1.5"]
)
def test_marked_answers_of_the_decoder_are_the_same_streamed_and_speculated(decoder, chain):
    options = {"max_new_tokens": 60, "ignore_eos": True, "seed": 3}
    plain = decoder.generate(PROMPT, chain, **options)
    assert decoder.generate(PROMPT, chain, n=2, **options)[0].text == plain.text
    assert decoder.generate(PROMPT, chain, speculate="lookup", **options).text == plain.text
    assert "".join(decoder.stream(PROMPT, chain, **options)) == plain.text
    mark = GumbelWatermark(42) if "gumbel" in chain else Kgw(42)
    assert detect([token.id for token in plain.tokens], mark).p_value < 1e-6


def test_a_text_needs_a_tokenizer(decoder):
    with pytest.raises(ParameterError, match="detect: answer is a text; give the model's tokenizer too"):
        detect("some text", Kgw(1))
    with pytest.raises(ParameterError, match="detect: answer must be token ids"):
        detect([1, -1], Kgw(1))
    ids = decoder.tokenizer.encode_plain("some text, which is long enough")
    assert detect("some text, which is long enough", Kgw(1), decoder.tokenizer) == detect(ids, Kgw(1))


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.setenv("DECODEKIT_PLUGINS", "watermark")

    def call(*words):
        status = cli.main(["watermark", "detect", *map(str, words)])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture(scope="module")
def marked(decoder, tmp_path_factory):
    """A file with marked answers, one after the other."""
    chain = "temperature=1.5, gumbel_watermark.key=42, gumbel_watermark.h=2"
    options = {"max_new_tokens": 80, "ignore_eos": True, "seed": 1}
    path = tmp_path_factory.mktemp("texts") / "answer.txt"
    path.write_text(decoder.generate(PROMPT, chain, **options).text)
    return path


def test_the_command_finds_a_mark_with_its_key_alone(run, marked):
    status, out, _ = run("tagline", marked, "--gumbel", "key=42,h=2", "--json")
    found = json.loads(out)
    assert status == 0 and found["file"] == str(marked)
    assert found["p_value"] < 1e-4 and found["tokens"] > 50 and found["z"] > 4
    _, out, _ = run("tagline", marked, "--gumbel", "key=43, h=2", "--json")
    assert json.loads(out)["p_value"] > 1e-4


def test_the_command_reads_a_tokenizer_alone_and_speaks_to_people(run, marked):
    tokenizer = EMBEDDED / "tagline" / "tokenizer.json"
    status, out, _ = run(tokenizer, marked, "--kgw", "key=1,gamma=0.5,seeding=selfhash")
    assert status == 0 and "p-value" in out and "expected without this mark" in out
    ids = Tokenizer(tokenizer).encode_plain(marked.read_text())
    assert f"of {len(ids):,} count" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kgw", "gamma=0.5"], "--kgw: key is missing"),
        (["--kgw", "key"], "--kgw: 'key' has no value"),
        (["--kgw", "key=abc"], "kgw: key must be a whole number"),
        (["--kgw", "key=1,key=2"], "--kgw: key is given twice"),
        (["--gumbel", "key=1,gamma=0.5"], "--gumbel: there is no option 'gamma'; it takes key, h"),
        (["--gumbel", "key=1,h=99"], "gumbel_watermark: h must be in [1, 16], got 99"),
    ],
)
def test_bad_options_of_the_command_are_named(run, marked, words, message):
    status, _, err = run("tagline", marked, *words)
    assert status == 2 and message in err and err.count("\n") == 1


def test_bad_files_of_the_command_are_named(run, tmp_path):
    short, binary = tmp_path / "short.txt", tmp_path / "binary.txt"
    short.write_text("a")
    binary.write_bytes(b"\xff\xfe")
    for file, message in (
        (short, "tokens, none with 4 before it; take a longer one"),
        (binary, "not UTF-8 at byte 0"),
        (tmp_path / "none.txt", "cannot be read (No such file"),
        (tmp_path, "cannot be read (Is a directory)"),
    ):
        status, _, err = run("tagline", file, "--gumbel", "key=1")
        assert status == 2 and message in err and str(file) in err
    status, _, err = run(tmp_path / "model", short, "--gumbel", "key=1")
    assert status == 2 and "error[E_BUNDLE]" in err
    status, _, err = run(short, short, "--gumbel", "key=1")
    assert status == 2 and "not a tokenizer.json" in err
