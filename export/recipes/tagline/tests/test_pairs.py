import json
import re
import subprocess
import sys
from collections import Counter

import pytest
from fitting import fits, words
from kinds import load_kinds
from pairs import FIRST, make_split, write
from prompts import PHRASINGS
from tones import load_tones


@pytest.fixture(scope="module")
def rows(split):
    return [*split.train, *split.valid, *split.heldout]


def combinations(pairs):
    return {(pair.kind, pair.tone) for pair in pairs}


def test_the_same_seed_makes_the_same_pairs():
    assert make_split(seed=3, count=3000) == make_split(seed=3, count=3000)


def test_another_seed_makes_other_pairs():
    assert make_split(seed=3, count=3000) != make_split(seed=4, count=3000)


def test_too_small_a_count_is_refused():
    with pytest.raises(ValueError, match="count must be at least"):
        make_split(count=100)


def test_there_are_enough_kinds_tones_and_phrasings():
    assert len(load_kinds()) >= 170
    assert len(load_tones()) >= 7
    assert len(PHRASINGS["any"] + PHRASINGS["plain"] + PHRASINGS["toned"]) >= 25


def test_every_tone_has_twenty_templates():
    for tone in load_tones().values():
        assert len({line for lines in tone.templates.values() for line in lines}) >= 20, tone.name


def test_no_two_kinds_share_a_name():
    names = Counter(name for kind in load_kinds().values() for name in kind.names)
    assert names.most_common(1)[0][1] == 1


def test_the_files_have_the_promised_sizes(split, rows):
    assert len(rows) == 26000
    assert len(split.train) >= 20000
    assert len(split.valid) == 600
    assert len(split.heldout) == 100


def test_no_pair_stands_twice(rows):
    assert len({(row.prompt, row.completion) for row in rows}) == len(rows)


def test_held_out_combinations_are_not_trained(split):
    seen = combinations(split.train) | combinations(split.valid)
    assert not combinations(split.heldout) & seen
    missing = len(load_kinds()) * len(load_tones()) - len(combinations(split.train))
    assert missing == pytest.approx(0.08 * len(load_kinds()) * len(load_tones()), abs=1)


def test_held_out_prompts_are_of_different_combinations_and_many_kinds(split):
    assert len(combinations(split.heldout)) == 100
    assert len({pair.kind for pair in split.heldout}) >= 80


def test_validation_has_trained_combinations_only(split):
    assert combinations(split.valid) <= combinations(split.train)


def test_every_kind_and_every_tone_is_trained(split):
    assert {pair.kind for pair in split.train} == set(load_kinds())
    assert {pair.tone for pair in split.train} == set(load_tones())


def test_the_example_of_the_manual_comes_first(split):
    assert split.train[0] == FIRST


def test_no_completion_is_frequent(rows):
    assert Counter(row.completion for row in rows).most_common(1)[0][1] < 0.005 * len(rows)


def test_every_completion_has_three_to_twelve_words(rows):
    assert all(3 <= len(row.completion.split()) <= 12 for row in rows)


def test_every_completion_is_a_sentence(rows):
    assert all(re.fullmatch(r"[A-Z0-9][ -~]*[.!?]", row.completion) for row in rows)


def test_only_playful_bold_and_hand_written_lines_exclaim(rows):
    lines = {line for kind in load_kinds().values() for line in kind.lines}
    loud = {row.tone for row in rows if row.completion.endswith("!") and row.completion not in lines}
    assert loud == {"playful", "bold"}


def test_articles_agree_with_the_next_sound(rows):
    wrong = re.compile(r"\b(a (?!one|uni|use|eu)[aeiou]|an (?!hour|honest|heir)[^aeiou])", re.IGNORECASE)
    assert [row for row in rows if wrong.search(row.completion) or wrong.search(row.prompt)] == []


def test_no_word_is_doubled(rows):
    doubled = re.compile(r"\b([\w'-]+)[ ,.]+\1\b", re.IGNORECASE)
    assert [row for row in rows if doubled.search(row.completion) or doubled.search(row.prompt)] == []


def test_every_completion_fits_its_kind(rows):
    assert all(fits(row.kind, row.completion) for row in rows)


def test_a_named_tone_changes_the_words(split):
    spoken = {tone: Counter() for tone in load_tones()}
    for pair in split.train:
        spoken[pair.tone].update(set(words(pair.completion)))
    signs = {"playful": "yes", "elegant": "grace", "bold": "regrets", "warm": "love", "modern": "rethink"}
    for tone, sign in signs.items():
        assert max(spoken, key=lambda name: spoken[name][sign]) == tone


def test_the_readme_shows_the_counts(split, recipe, tmp_path):
    readme = (recipe / "README.md").read_text(encoding="utf-8")
    assert write(split, tmp_path) in readme
    assert f"There are {len(load_kinds())} kinds" in readme
    assert f"There are {len(load_tones())} tones" in readme
    assert f"one of {len(PHRASINGS['any'] + PHRASINGS['plain'] + PHRASINGS['toned'])} phrasings" in readme


def test_the_command_writes_three_files(recipe, tmp_path):
    command = [sys.executable, recipe / "pairs.py", "--out", tmp_path, "--count", "3000"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("file")
    for name in ("train", "valid", "heldout"):
        first = (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[0]
        assert list(json.loads(first)) == ["prompt", "completion", "kind", "tone"]
