"""Rows: what is trained, what is refused and how it is told, what a long row becomes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import tokenizers
from drawn_tokenizers import END, byte_level, saved

from decodekit.chat import Chat
from decodekit.tokenizer import Tokenizer
from decodekit_export import jsonl
from decodekit_export.data import Dataset, Reading, load
from decodekit_export.faults import MAX_PROBLEMS, DataError

SHARED = Path(os.environ.get("DECODEKIT_SHARED", Path(__file__).parents[3] / "shared"))
GSM8K = SHARED / "data" / "gsm8k-train.jsonl"

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def chat_of(
    made: tokenizers.Tokenizer, folder: Path, template: str | None = TEMPLATE
) -> tuple[Tokenizer, Chat]:
    tokenizer = saved(made, folder)
    return tokenizer, Chat(tokenizer, template, tokenizer.id(END))


@pytest.fixture(scope="module")
def rendering(tmp_path_factory):
    corpus = ["a b c d", "the cat sat on the mat"]
    return chat_of(byte_level(corpus), tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def read(rendering, tmp_path):
    """Load lines as a file."""

    def load_lines(*lines: object, **options: object) -> Dataset:
        path = tmp_path / "train.jsonl"
        whole = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        path.write_bytes(whole)
        return load(path, rendering[1], Reading(**{"max_length": 64, **options}))

    return load_lines


def pair(prompt: object = "the cat", completion: object = "sat", **others: object) -> dict[str, object]:
    return {"prompt": prompt, "completion": completion, **others}


def problems(error: pytest.ExceptionInfo[DataError]) -> list[str]:
    return error.value.problems


# What is trained


def test_trained_are_the_completion_and_its_stop_token(read, rendering):
    tokenizer, _ = rendering
    (row,) = read(pair("a b", "c d")).rows
    spelled = [tokenizer.token(id) for id in row.ids]
    assert spelled == ["<|user|>", "a", "Ġb", END, "<|assistant|>", "c", "Ġd", END]
    assert row.mask == (False,) * 5 + (True,) * 3


def test_a_prompt_may_be_messages(read, rendering):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (row,) = read(pair([*turns, {"role": "user", "content": "c"}], "d")).rows
    assert rendering[0].decode(id for id, mask in zip(row.ids, row.mask) if not mask) == "abc"
    assert sum(row.mask) == 2


def test_an_empty_completion_trains_its_stop_token_where_that_is_allowed(read):
    (row,) = read(pair("a", ""), allow_empty=True).rows
    assert sum(row.mask) == 1


# What is refused


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (pair(completion=" \n"), "'completion' is empty - remove the row or set allow_empty"),
        (pair(prompt=""), "'prompt' is empty - remove the row or set allow_empty"),
        (pair(completion=None), "'completion' must be a string, found null"),
        (pair(completion=3), "'completion' must be a string, found a number"),
        (pair(completion=["a"]), "'completion' must be a list of messages, one item is a string"),
        (pair(prompt=True), "'prompt' must be a string or a list of messages, found a boolean"),
        (pair(prompt=["a"]), "'prompt' must be a list of messages, one item is a string"),
        (pair(prompt=[{"role": "user"}]), "messages[0].content must be a string, got None"),
        (
            {"prompt": "a", "completions": "b"},
            "no key 'completion'; expected 'prompt' and 'completion', found 'prompt', 'completions'; "
            "did you mean 'completions'? --map completion=completions",
        ),
        (
            {},
            "no key 'prompt'; expected 'prompt' and 'completion', found no key; "
            "name it with --map prompt=KEY",
        ),
        (b'{"prompt": "a", "prompt": "b"}', "not accepted: key 'prompt' is there twice; keep one"),
        (b'{"prompt": "a", "n": NaN}', "not accepted: NaN is no JSON number; write null or a number"),
        (b'{"prompt": "a", "n": 1e999}', "not accepted: number 1e999 is out of range"),
        (b"[" * 100_000, "not accepted: "),
        (b'{"n": 1' + b"0" * 5000 + b"}", "not accepted: Exceeds the limit"),
        (b'["a", "b"]', "not accepted: an object is expected, found list"),
        (b'{"prompt": "a",', "not JSON: "),
        (b'{"prompt": "a"} {}', "not JSON: Extra data at column 17; write one object a line"),
        (b'{"prompt": "caf\xe9"}', "not UTF-8 at byte 16 of the line; convert it, such as iconv -f LATIN1"),
        (rb'{"prompt": "\ud800", "completion": "a"}', r"a lone surrogate such as \ud800 is no character"),
    ],
)
def test_a_faulty_line_is_named_with_its_fault_and_the_way_out(read, line, fault):
    with pytest.raises(DataError) as error:
        read(pair(), line)
    assert len(problems(error)) == 1
    assert problems(error)[0].startswith(f"train.jsonl:2: {fault}")


def test_all_faulty_lines_are_told_at_once(read):
    with pytest.raises(DataError, match=r"^train.jsonl:2: .* \(and 1 more bad row\)$") as error:
        read(pair(), pair(completion=""), pair(), b"{")
    assert [problem.split(": ")[0] for problem in problems(error)] == ["train.jsonl:2", "train.jsonl:4"]


def test_reading_stops_at_the_twentieth_fault(read):
    with pytest.raises(DataError) as error:
        read(*[pair(completion="")] * 100)
    assert len(problems(error)) == MAX_PROBLEMS == 20
    assert "reading stopped there" in str(error.value)


def test_a_file_without_rows_is_refused(read):
    with pytest.raises(DataError, match="no row, nothing to train on; a row is"):
        read(b"", b"  ")


def test_a_file_of_which_every_row_is_dropped_is_refused(read):
    with pytest.raises(DataError, match="no row, nothing to train on; 1 was dropped"):
        read(pair("a " * 90), window="drop")


def test_a_file_that_is_not_there_is_refused(rendering, tmp_path):
    with pytest.raises(DataError, match="nothing.jsonl: cannot be read .No such file or directory."):
        load(tmp_path / "nothing.jsonl", rendering[1], Reading(max_length=64))


def test_utf_16_is_recognised(read):
    with pytest.raises(DataError, match="train.jsonl:1: UTF-16; convert it: iconv -f UTF-16 -t UTF-8"):
        read(json.dumps(pair()).encode("utf-16"))


def test_a_line_beyond_the_cap_is_refused_without_reading_it(read, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE", 1000)
    with pytest.raises(DataError, match="train.jsonl:2: longer than 1,000 bytes"):
        read(pair(), pair(completion="a" * 5000))


def test_a_raw_prompt_of_no_token_is_refused(rendering, tmp_path):
    raw = Chat(rendering[0], None, rendering[0].id(END))
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(pair("", "a")))
    with pytest.raises(DataError, match="no token comes before the completion"):
        load(path, raw, Reading(max_length=64, allow_empty=True))


# What is accepted


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"prompt": "a", "completion": "b"}\n',
        b'{"prompt": "a", "completion": "b"}\r\n',
        b'\n\n  {"prompt": "a",\r"completion": "b"}',
    ],
    ids=["byte order mark", "carriage return", "blank lines and no line end"],
)
def test_harmless_differences_are_accepted(rendering, tmp_path, content):
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    assert len(load(path, rendering[1], Reading(max_length=64)).rows) == 1


def test_a_line_separator_inside_a_text_ends_no_line(read, rendering):
    (row,) = read('{"prompt": "a", "completion": "b\u2028c"}'.encode()).rows
    assert rendering[0].decode(row.ids).endswith("b\u2028c")


def test_special_token_text_in_a_row_stays_text(read, rendering):
    tokenizer, _ = rendering
    (row,) = read(pair(f"a{END}", f"b{END}c")).rows
    assert row.ids.count(tokenizer.id(END)) == 2  # the template's own, and the stop token


def test_keys_may_have_other_names(read):
    assert read({"question": "a", "answer": "b"}, columns={"prompt": "question", "completion": "answer"}).rows


def test_a_limit_leaves_the_rest_of_the_file_unread(read):
    assert len(read(pair(), pair(), b"{", limit=2).rows) == 2


def test_what_was_done_is_counted(read):
    odd = pair("a\x07", "b", topic="x")
    counts = read(pair(), pair(), odd, pair("a" * 300, "b"), window="drop").counts
    assert (counts.rows, counts.dropped, counts.truncated) == (3, 1, 0)
    assert (counts.repeated, counts.with_control_characters, counts.ignored_keys) == (1, 1, ("topic",))


def test_tokens_are_counted_as_they_are_in_the_rows(read):
    data = read(pair("a b", "c d"), pair("a", "c"))
    assert data.counts.tokens == 8 + 6
    assert data.counts.trained_tokens == 3 + 2


def test_the_digest_is_that_of_the_file(read, tmp_path):
    data = read(pair(), pair("b"))
    assert data.sha256 == hashlib.sha256((tmp_path / "train.jsonl").read_bytes()).hexdigest()


def test_pairs_that_two_files_share_are_counted(read):
    assert read(pair("a"), pair("b")).overlap(read(pair("b"), pair("c"))) == 1


# What a long row becomes


def test_a_long_row_is_an_error_by_default(read):
    with pytest.raises(
        DataError, match="train.jsonl:2: 12 tokens do not fit the window of 8; choose what goes"
    ):
        read(pair("a", "b"), pair("b b b b b b b", "b"), max_length=8)


def test_the_oldest_tokens_of_the_prompt_go_and_the_completion_stays(read, rendering):
    data = read(pair("a b c d b c d", "c d"), max_length=8, window="left_prompt")
    spelled = [rendering[0].token(id) for id in data.rows[0].ids]
    assert spelled == ["Ġb", "Ġc", "Ġd", END, "<|assistant|>", "c", "Ġd", END]
    assert data.rows[0].mask == (False,) * 5 + (True,) * 3
    assert data.counts.truncated == 1


def test_a_completion_that_does_not_fit_is_never_cut(read):
    for window in ("left_prompt", "error"):
        with pytest.raises(DataError, match="the completion alone has 8 tokens, .* in 8; shorten it"):
            read(pair("a", "b b b b b b b"), max_length=8, window=window)
    assert read(pair("a", "b b b b b b b"), pair("a", "b"), max_length=8, window="drop").counts.dropped == 1


# A real file


@pytest.mark.skipif(
    not GSM8K.is_file(),
    reason="no data/gsm8k-train.jsonl under DECODEKIT_SHARED or in ../shared of the repository",
)
def test_real_questions_and_answers_are_read_whole(rendering):
    tokenizer, chat = rendering
    reading = Reading(max_length=4096, columns={"prompt": "question", "completion": "answer"})
    data = load(GSM8K, chat, reading)
    assert (data.counts.rows, data.counts.dropped, data.counts.ignored_keys) == (7473, 0, ())
    trained = [id for id, mask in zip(data.rows[0].ids, data.rows[0].mask) if mask]
    assert tokenizer.decode(trained).startswith("Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n")
