import json
import subprocess
import sys
from dataclasses import asdict

import pytest
from fitting import distinctive_stems, fits, stem
from kinds import load_kinds
from quality import deranged, report


def answers(pairs, finish_reason="stop"):
    return [asdict(pair) | {"finish_reason": finish_reason} for pair in pairs]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("coffee shop", "Sunshine in every cup."),
        ("coffee shop", "Your daily dose of happiness."),
        ("bakery", "Where croissants are baked with love."),
        ("hiking boots", "Own the summit!"),
        ("dentist", "Flossing, but smarter."),
        ("bookstore", "Get lost between the shelves."),
    ],
)
def test_a_line_with_a_distinctive_word_fits(kind, text):
    assert fits(kind, text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("coffee shop", "Made with love for you."),
        ("coffee shop", "Own the summit!"),
        ("bakery", "Always fresh, day after day."),
        ("hiking boots", "Your daily dose of happiness."),
        ("dentist", "The art of the loaf."),
        ("bookstore", ""),
    ],
)
def test_a_line_without_one_does_not_fit(kind, text):
    assert not fits(kind, text)


def test_a_word_of_the_templates_is_never_distinctive():
    assert not any(stem("home") in found for found in distinctive_stems().values())


def test_every_kind_has_distinctive_words():
    assert min(len(found) for found in distinctive_stems().values()) >= 8


@pytest.mark.parametrize("forms", [("sip", "sips", "sipping", "sipped"), ("slice", "slices", "slicing")])
def test_simple_forms_of_a_word_share_a_stem(forms):
    assert len({stem(form) for form in forms}) == 1


def test_the_generated_lines_pass(split):
    result = report(answers(split.valid))
    assert result.passed
    assert result.fitting >= 0.97 * result.answers
    assert result.control <= 0.15 * result.answers


def test_the_control_shows_that_the_check_can_fail(split):
    wrong = [
        row | {"kind": kind, "completion": text}
        for row, (kind, text) in zip(answers(split.heldout), deranged(answers(split.heldout)), strict=True)
    ]
    result = report(wrong)
    assert not result.passed
    assert not result.verdicts["fitting"]


def test_a_line_that_fits_everything_is_caught_by_the_control():
    kinds = list(load_kinds())[:100]
    everything = " ".join(word for kind in load_kinds().values() for word in kind.units)
    rows = [{"kind": kind, "completion": everything, "finish_reason": "stop"} for kind in kinds]
    result = report(rows)
    assert result.fitting == 100
    assert not result.verdicts["control"]


def test_no_kind_keeps_its_line_in_the_control(split):
    rows = answers(split.valid)
    by_line = {row["completion"]: row["kind"] for row in rows}
    shuffled = deranged(rows)
    assert sorted(text for _, text in shuffled) == sorted(row["completion"] for row in rows)
    unique = [row["completion"] for row in rows]
    assert all(by_line[text] != kind for kind, text in shuffled if unique.count(text) == 1)


def test_a_control_needs_more_than_one_kind():
    rows = [{"kind": "bakery", "completion": "Fresh bread.", "finish_reason": "stop"}] * 3
    with pytest.raises(ValueError, match="no kind may have more than half"):
        report(rows)


def test_copies_and_distinct_lines_are_counted(split):
    rows = answers(split.heldout)
    known = {row["completion"] for row in rows[:30]}
    result = report(rows, known)
    assert result.distinct == 100
    assert result.copies == 30


def test_an_answer_cut_short_is_not_ended(split):
    rows = answers(split.heldout[:97]) + answers(split.heldout[97:], finish_reason="length")
    assert not report(rows).verdicts["ended"]


def test_a_single_empty_answer_fails(split):
    rows = answers(split.heldout)
    rows[0]["completion"] = " "
    assert not report(rows).verdicts["empty"]


@pytest.mark.parametrize(("spoil", "status"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_status_says_whether_the_bars_are_met(split, recipe, tmp_path, spoil, status, as_json):
    rows = answers(split.heldout)
    for row in rows:
        row["completion"] = "The best there is." if spoil else row["completion"]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "train.jsonl").write_text(json.dumps(asdict(split.train[0])) + "\n")
    command = [sys.executable, recipe / "quality.py", tmp_path / "answers.jsonl"]
    command += ["--train", tmp_path / "train.jsonl", *(["--json"] if as_json else [])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    if as_json:
        assert json.loads(done.stdout)["passed"] is not spoil
    else:
        assert ("MISSED" in done.stdout) is spoil
