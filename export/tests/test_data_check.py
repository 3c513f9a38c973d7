"""`decodekit data check`: what a run would train on, told before there is one."""

from __future__ import annotations

import json

import pytest

from decodekit.cli import main


@pytest.fixture
def base(checkpoint):
    return checkpoint("Llama")


@pytest.fixture
def check(base, tmp_path, capsys):
    """Run on records, some of them lines; give status, output, errors."""

    def run(records, *options):
        path = tmp_path / "train.jsonl"
        path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records))
        status = main(["data", "check", str(path), "--model", str(base), *options])
        return status, *capsys.readouterr()

    return run


def pair(prompt="a", completion="b"):
    return {"prompt": prompt, "completion": completion}


def test_counts_lengths_and_one_row_with_its_trained_tokens_marked(check):
    records = [pair(), pair(), pair("a " * 90, "b"), pair("the cat", "sat")]
    status, out, _ = check(records, "--valid", "30%", "--seed", "4")
    assert status == 0
    assert "truncated: line 3" in out and "repeated: line 2" in out
    assert "the window has 96" in out and "a completion ends by '</s>' or '<|im_end|>'" in out
    assert "train.jsonl:3, 96 tokens, 2 of them trained" in out and "assistant\n⟦b<|im_end|>⟧" in out
    assert "30%: " in out


def test_as_json(check):
    records = [pair(), pair(), pair("a " * 90, "b"), pair("the cat", "sat")]
    status, out, _ = check(records, "--json", "--line", "4")
    found = json.loads(out)
    assert status == 0
    train = found["train"]
    counts = train["counts"]
    assert (counts["records"], counts["rows"], counts["truncated"], counts["repeated"]) == (4, 4, 1, 1)
    assert counts["first"] == {"truncated": [3], "repeated": [2]}
    assert train["trained_share"] == pytest.approx(counts["trained_tokens"] / counts["tokens"], abs=1e-4)
    assert train["lengths"][3] == found["window"] == 96
    assert sum(bin["rows"] for bin in train["histogram"]) == 4
    assert [(b["begin"], b["end"]) for b in train["histogram"]] == [(1, 16), (17, 32), (33, 64), (65, 128)]
    assert found["example"].endswith("⟦sat<|im_end|>⟧") and found["example_line"] == 4
    assert (found["valid"], found["overlap"]) == (None, 0)


def test_what_both_files_say_is_counted(check, tmp_path):
    (tmp_path / "valid.jsonl").write_text(json.dumps(pair()) + "\n")
    _, out, _ = check([pair(), pair("c")], "--valid", str(tmp_path / "valid.jsonl"))
    assert "1 examples are in both, so the loss on these flatters" in out


def test_faulty_lines_are_told_together(check):
    status, _, err = check([pair(), pair("a", ""), "{", pair("", "b")])
    assert status == 2
    assert "train.jsonl:2: 'completion' is empty" in err
    assert "train.jsonl:3: not JSON" in err and "train.jsonl:4: 'prompt' is empty" in err
    status, out, _ = check([pair(), "{"], "--json")
    assert status == 2
    assert json.loads(out)["problems"][0].startswith("train.jsonl:2: not JSON")


def test_bad_lines_are_skipped_and_listed(check, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = check([pair(), "{", pair("c")], "--skip-bad", "1")
    assert status == 0
    assert "1 bad rows were passed over; train.jsonl.bad.txt lists them" in out
    assert (tmp_path / "train.jsonl.bad.txt").read_text().startswith("train.jsonl:2: not JSON")


def test_columns_are_mapped_on_the_command_line(check):
    records = [{"question": "a", "answer": "b"}]
    status, out, _ = check(records, "--map", "prompt=question", "--map", "completion=answer")
    assert status == 0 and "⟦b<|im_end|>⟧" in out


def test_a_row_that_is_not_there_cannot_be_shown(check):
    status, _, err = check([pair()], "--line", "7")
    assert status == 2 and "line 7: no row of it is trained; name another" in err
