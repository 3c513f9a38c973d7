import json
import math
import os
import signal
import subprocess
import sys
import time
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decodekit.errors import ParameterError
from decodekit.evaluation.intervals import Bootstrap, wilson
from decodekit.evaluation.metrics import metrics
from decodekit.evaluation.plot import svg
from decodekit.evaluation.points import points
from decodekit.evaluation.report import report
from decodekit.jobs.answering import row_seed

ANSWER = r"#### (-?[\d,]+)"
PROMPTS = [f"Give me a tagline for {what}." for what in ("a bakery", "a bike shop", "a zoo", "my new band")]


@pytest.fixture
def pairs(tmp_path, tagline):
    """Pairs of which greedy decoding gets the first half right, and a row that is none."""
    rows = [{"prompt": p, "completion": tagline.generate(p).text} for p in PROMPTS[:2]]
    rows += [{"prompt": p, "completion": "Something else #### 7"} for p in PROMPTS[2:]]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": "x"}]))
    return path


@pytest.mark.parametrize(
    ("name", "answer", "wanted", "worth"),
    [
        ("exact", " yes\n", "yes", 1),
        ("exact", "Yes", "yes", 0),
        ("prefix", "abxx", "abcd", 0.5),
        ("prefix", "abcdefg", "abcd", 1),
        ("prefix", "", "abcd", 0),
        ("regex", "so #### 1 then #### 42", "it is #### 42", 1),
        ("regex", "so #### 42 then #### 1", "it is #### 42", 0),
        ("regex", "42", "it is #### 42", 0),
        ("regex", "42", "42", 0),
    ],
)
def test_metrics_by_hand(name, answer, wanted, worth):
    assert metrics(["exact", "prefix", "regex"], ANSWER)[name](answer, wanted) == worth


@pytest.mark.parametrize(
    ("names", "pattern", "said"),
    [
        (["exactly"], None, "no metric named 'exactly'"),
        (["exact", "exact"], None, "each metric once"),
        (["regex"], None, "need each other"),
        (["exact"], "x", "need each other"),
        (["regex"], "(", "no pattern"),
    ],
)
def test_metrics_that_are_none_are_refused(names, pattern, said):
    with pytest.raises(ParameterError, match=said):
        metrics(names, pattern)


def test_wilson_by_hand():
    # Wilson, 1927, as tabulated by Newcombe, "Two-sided confidence intervals for the single
    # proportion", Statistics in Medicine 17, 1998, table I, method 3.
    for hits, count, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)
    assert wilson(0, 0) == (0, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 5))
def test_the_bootstrap_is_as_wide_as_the_normal_interval_of_a_mean(seed, spread):
    values = np.random.default_rng(seed).normal(3, spread, (400, 1))
    table = Bootstrap(1)
    for row, value in enumerate(values):
        table.add(row + 1000 * seed, value)
    low, high = table.interval(0)
    expected = 2 * 1.96 * values.std() / math.sqrt(400)
    assert table.means[0] == pytest.approx(values.mean())
    assert low < values.mean() < high and (high - low) == pytest.approx(expected, rel=0.25)


def test_a_bootstrap_interval_covers_the_truth_as_often_as_it_says():
    rng, covered = np.random.default_rng(1), 0
    for trial in range(100):
        table = Bootstrap(1)
        for row, value in enumerate(rng.exponential(1.0, (100, 1))):
            table.add(row + 1000 * trial, value)
        low, high = table.interval(0)
        covered += low <= 1 <= high
    assert 0.95 - 4 * math.sqrt(0.95 * 0.05 / 100) < covered / 100 <= 1


def test_a_difference_is_paired_row_by_row():
    rng, table = np.random.default_rng(1), Bootstrap(2)
    for row in range(300):
        hard = rng.normal(0, 10)
        table.add(row, np.asarray([hard, hard + 0.5 + rng.normal(0, 0.1)]))
    low, high = table.interval(1, 0)
    assert 0.4 < low < 0.5 < high < 0.6
    assert table.interval(0)[1] - table.interval(0)[0] > 1


@pytest.mark.parametrize(
    ("base", "sweeps", "chains", "found"),
    [
        ([], [], [], [[]]),
        (["top_k=5"], ["top_p=0.8,1"], [], [["top_k=5", "top_p=0.8"], ["top_k=5", "top_p=1"]]),
        (["top_p=0.5", "greedy"], ["top_p=0.8"], [], [["top_p=0.8", "greedy"]]),
        (
            [],
            ["a=1,2", "b.c=3,4"],
            [],
            [["a=1", "b.c=3"], ["a=1", "b.c=4"], ["a=2", "b.c=3"], ["a=2", "b.c=4"]],
        ),
        ([], [], ["greedy", "a=1, b=2"], [["greedy"], ["a=1, b=2"]]),
    ],
)
def test_chains_are_written_swept_or_a_grid(base, sweeps, chains, found):
    assert points(base, sweeps, chains) == found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["a=1"], [], ["greedy"]), "--chain excludes"),
        (([], ["a"], []), "--sweep must be NAME"),
        (([], ["a=1,,2"], []), "--sweep must be NAME"),
        (([], ["a=1", "a=2"], []), "vary each parameter once"),
        (([], [f"a={','.join('123456789')}", f"b={','.join('123456789')}"], []), "at most 64 chains"),
    ],
)
def test_sweeps_that_are_none_are_refused(arguments, said):
    with pytest.raises(ParameterError, match=said):
        points(*arguments)


def records(worth):
    """Of rows, for two chains, what an answer is worth."""
    return [
        {"row": row, "choices": [{"worth": {"exact": a}}, {"worth": {"exact": b}}], "logprob": -1.0}
        for row, (a, b) in enumerate(worth)
    ]


def test_a_report_says_what_differs_and_what_does_not():
    better = report(
        records([(0, 1), (1, 1), (0, 1), (0, 0)] * 30), ["greedy", "hot"], ["exact"], logprob=True
    )
    assert [v.mean for v in better.values["exact"]] == [0.25, 0.75]
    assert (better.values["exact"][0].low, better.values["exact"][0].high) == pytest.approx(wilson(30, 120))
    assert "exact: other than greedy by more than chance: hot" in better.words()
    assert better.logprob.mean == -1.0
    same = report(records([(0, 1), (1, 0), (1, 1), (0, 0)] * 30), ["greedy", "hot"], ["exact"], logprob=False)
    assert same.words() == ["exact: other than greedy by more than chance: none"]


def test_a_report_says_plainly_when_a_value_is_near_zero():
    zero = report(records([(0, 0)] * 200), ["greedy", "hot"], ["exact"], logprob=False)
    assert "exact is zero under every chain, and below 1.9% at 95%" in zero.words()[0]
    near = report(records([(0, 0)] * 199 + [(1, 0)]), ["greedy", "hot"], ["exact"], logprob=False)
    assert "exact is near zero: at most 0.5%, and below 2.8%" in near.words()[0]
    few = report(records([(0, 1)] * 19), ["greedy", "hot"], ["exact"], logprob=False)
    assert few.words() == ["19 rows are too few to tell chains apart; give 20 or more"]
    failed = [{"row": 1, "error": {"code": "E_X"}}]
    assert report(failed, ["greedy"], ["exact"], logprob=False).words() == [
        "1 rows failed and count nowhere",
        "no row was answered",
    ]


def test_rows_that_are_all_alike_leave_doubt_of_a_mean_too():
    """Resampling them finds no other value."""
    alike = [{"row": row, "choices": [{"worth": {"prefix": 0.0}}]} for row in range(20)]
    (value,) = report(alike, ["greedy"], ["prefix"], logprob=False).values["prefix"]
    assert (value.mean, value.low, value.high) == pytest.approx((0, 0, 0.1611), abs=5e-5)


def test_the_plot_is_a_picture_that_stands_by_itself():
    found = report(records([(0, 1), (1, 1)] * 9), ["<greedy> & co", "x" * 99], ["exact"], logprob=False)
    root = ElementTree.fromstring(svg(found, "a < b"))
    texts = [e.text for e in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<greedy> & co" in texts and "exact" in texts
    assert len([*root.iter("{http://www.w3.org/2000/svg}circle")]) == 2
    assert not any(word in svg(found, "t") for word in ("href", "url("))


def test_eval_compares_chains_on_the_same_seeds(run, pairs, tmp_path, tagline):
    words = ["eval", "tagline", str(pairs), str(tmp_path / "out.jsonl"), "--seed", "3", "--json"]
    words += ["--metric", "exact,prefix,regex,logprob", "--regex", ANSWER]
    words += ["--chain", "greedy", "--chain", "temperature=1.5", "--plot", str(tmp_path / "plot.svg")]
    status, out, _ = run(*words)
    found = json.loads(out)
    assert status == 1 and found["rows"] == 4 and found["failed"] == 1
    assert found["metrics"]["exact"][0]["mean"] == 0.5
    assert found["metrics"]["regex"][0]["mean"] == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    alone = tagline.generate(PROMPTS[1], "temperature=1.5", seed=row_seed(3, "row-1"))
    assert rows[1]["choices"][1]["text"] == alone.text
    assert rows[1]["logprob"] == pytest.approx(
        tagline.score(rows[1]["choices"][0]["text"], prompt=PROMPTS[1]).mean
    )
    assert found["logprob"]["mean"] == pytest.approx(np.mean([row["logprob"] for row in rows[:4]]))
    assert "completion must be a text" in rows[4]["error"]["message"]
    ElementTree.parse(tmp_path / "plot.svg")
    assert run(*words)[1] == out
    status, out, _ = run(*words[:-5], "--chain", "greedy")
    assert status == 2


def test_eval_shows_a_table_and_what_it_tells(run, pairs, tmp_path):
    words = [
        "eval",
        "tagline",
        str(pairs),
        str(tmp_path / "out.jsonl"),
        "--sweep",
        "top_k=1,50",
        "--limit",
        "4",
    ]
    status, out, _ = run(*words, "-p", "temperature=1.2")
    assert status == 0 and "temperature=1.2, top_k=1" in " ".join(out.split()).replace("= ", "=")
    assert "50.00%" in out and "4 rows are too few" in out


def test_eval_of_which_nothing_was_answered_says_where_to_look(run, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"prompt": "x"}\n')
    status, out, err = run(
        "eval", "tagline", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"), "--json"
    )
    assert status == 2 and not out and "no row was answered" in err and "out.jsonl says why" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metric", "best"], "no metric named 'best'"),
        (["--sweep", "top_p=0.5,7"], "top_p: p must be in [0, 1], got 7"),
        (["--sweep", "no_such=1,2"], "no logits processor named 'no_such'"),
        (["--limit", "0"], "--limit must be"),
    ],
)
def test_what_is_wrong_is_refused_before_a_row_is_begun(run, pairs, tmp_path, words, said):
    status, _, err = run("eval", "tagline", str(pairs), str(tmp_path / "out.jsonl"), *words)
    assert status == 2 and said in err and not (tmp_path / "out.jsonl").exists()


def test_real_questions_are_asked_killed_and_gone_on_with(shared, tmp_path):
    data = shared / "data" / "gsm8k-train.jsonl"
    if not data.is_file():
        pytest.skip("needs GSM8K's questions; set DECODEKIT_SHARED to the folder that holds data/")

    def words(name):
        fields = ["--field", "prompt=question", "--field", "completion=answer"]
        how = ["--metric", "exact,regex", "--regex", ANSWER, "--sweep", "temperature=0.5,1", "--seed", "1"]
        where = ["tagline", str(data), str(tmp_path / name), "--limit", "40", "--max-new-tokens", "24"]
        return [
            sys.executable,
            "-m",
            "decodekit.cli",
            "eval",
            *where,
            *fields,
            *how,
            "--group",
            "2",
            "--json",
        ]

    environment = {**os.environ, "DECODEKIT_PLUGINS": ""}
    whole = subprocess.run(words("whole"), capture_output=True, text=True, env=environment)
    process = subprocess.Popen(
        words("out"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (tmp_path / "out").exists() or not (tmp_path / "out").stat().st_size:
        assert process.poll() in (None, 0), "it ended before it wrote"
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    again = subprocess.run(words("out"), capture_output=True, text=True, env=environment)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert again.stdout == whole.stdout
    found = json.loads(whole.stdout)
    assert found["rows"] + found["failed"] == 40 and found["rows"] > 5
    assert "regex is zero under every chain" in " ".join(found["words"])
