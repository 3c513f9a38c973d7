"""Files of every kind and shape: what is read, refused and how that is told, skipped, held out."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from drawn_tokenizers import END, byte_level, saved

from decodekit.chat import Chat
from decodekit.errors import ParameterError
from decodekit_export import compressed, jsonl
from decodekit_export.data import Dataset, Reading, load, load_both
from decodekit_export.faults import DataError
from decodekit_export.row_file import RowFile
from decodekit_export.shapes import columns_of

SAVED = Path(__file__).parent / "fixtures" / "saved-dataset"
TEMPLATE = (
    "{% if tools %}<|user|>{{ tools | tojson }}<|end|>{% endif %}"
    "{% for m in messages %}<|{{ m.role if m.role == 'assistant' else 'user' }}|>{{ m.content }}"
    "{{ m.tool_calls | tojson if m.tool_calls }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PAIRS = [("the cat", "sat, on\nthe mat"), ('ça "va"', "猫")]


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    tokenizer = saved(byte_level(["the cat sat on the mat"]), tmp_path_factory.mktemp("tokenizer"))
    return Chat(tokenizer, TEMPLATE, tokenizer.id(END))


@pytest.fixture
def spelled(chat):
    """Prompts and what is trained, as texts, of every row."""
    decode = chat._tokenizer.decode

    def spell(data: Dataset) -> list[tuple[str, ...]]:
        rows = []
        for row in data.rows:
            said = decode(id for id, trained in zip(row.ids, row.mask, strict=True) if trained)
            rows.append((decode(row.prompt), said))
        return rows

    return spell


@pytest.fixture
def read(chat, tmp_path):
    def of(name: str | Path, content: bytes | str | None = None, **options: object) -> Dataset:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        options = {"max_length": 500, "bad_folder": tmp_path, **options}
        return load(path, chat, Reading(**options))

    return of


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


RECORDS = [{"prompt": prompt, "completion": completion} for prompt, completion in PAIRS]


# Kinds of files


def test_gzip_is_unpacked_on_the_way(read, spelled):
    assert spelled(read("pairs.jsonl.gz", gzip.compress(lines(*RECORDS)))) == PAIRS


CSV = '\ufeffprompt,completion,n\r\nthe cat,"sat, on\nthe mat",1\r\n\r\n"ça ""va""",猫,2\r\n'.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pairs.csv", CSV),
        ("pairs.csv.gz", gzip.compress(CSV)),
        ("pairs.tsv", CSV.replace(b"sat, on", b"sat~ on").replace(b",", b"\t").replace(b"~", b",")),
    ],
)
def test_values_separated_by_commas_or_tabs(read, spelled, name, content):
    data = read(name, content)
    assert spelled(data) == PAIRS
    assert data.rows[1].line == 5  # the first holds an end of line, the one between is blank
    assert data.counts.ignored_keys == ("n",)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"prompt,completion\na\n", ":2: 1 fields where the first row has 2; quote what holds a delimiter"),
        (b"prompt,completion\na,b,c\n", ":2: 3 fields where the first row has 2"),
        (b"prompt,prompt\na,b\n", ":1: two columns are called 'prompt'; rename one"),
        (b'prompt,completion\n"a"b,c\n', ":2: not a row of values: "),
        (b'prompt,completion\na,"b\n', ":2: not a row of values: unexpected end of data"),
        (b"prompt,completion\na,caf\xe9\n", ":2: not UTF-8; convert it, such as iconv -f LATIN1"),
        (b"prompt,completion\na,\n", ":2: 'completion' is empty"),
        (b"question,completion\na,b\n", ":2: no key 'prompt'; expected 'prompt' and 'completion', found"),
        (b"\xff\xfep\x00", ":1: UTF-16; convert it"),
        (b"", ": no row, nothing to train on"),
        (b"prompt,completion\n", ": no row, nothing to train on"),
    ],
)
def test_a_faulty_table_is_told_with_its_line(read, content, problem):
    with pytest.raises(DataError) as error:
        read("pairs.csv", content)
    assert error.value.problems[0].startswith(f"pairs.csv{problem}")


def test_a_quote_that_is_never_closed_is_refused_at_the_cap(read, monkeypatch):
    monkeypatch.setattr("decodekit_export.csv_table.MAX_LINE", 1000)
    with pytest.raises(DataError, match=r"pairs.csv:2: not a row of values: field larger than field limit"):
        read("pairs.csv", b'prompt,completion\n"a,b\n' + b"a,b\n" * 1000)


def test_parquet(read, spelled, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow: decodekit-export[data]")
    import pyarrow

    table = pyarrow.Table.from_pylist([{**record, "n": 1} for record in RECORDS] * 600)
    parquet.write_table(table, tmp_path / "pairs.parquet", row_group_size=500)
    data = read("pairs.parquet")
    assert spelled(data) == PAIRS * 600
    assert [row.line for row in data.rows] == list(range(1, 1201))


def test_a_file_that_only_says_it_is_parquet_is_refused(read):
    pytest.importorskip("pyarrow", reason="needs pyarrow: decodekit-export[data]")
    with pytest.raises(DataError, match="pairs.parquet: cannot be read .*; check the path and the file"):
        read("pairs.parquet", b"PAR1" + b"\xff" * 99 + b"PAR1")


def test_a_dataset_that_was_saved_to_disk(read, spelled):
    pytest.importorskip("pyarrow", reason="needs pyarrow: decodekit-export[data]")
    assert spelled(read(SAVED / "test")) == [("a", "b"), ("ç", "猫")]
    call = '[{"function": {"name": "mat", "arguments": {"x": 1}}}]'
    assert spelled(read(SAVED / "train")) == [("a", "the cat"), ("be briefb", call + "sat")]


def test_a_folder_of_splits_asks_for_one(read):
    with pytest.raises(
        DataError, match=r"a folder of splits \(test, train\); name one, as saved-dataset/train"
    ):
        read(SAVED)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "a folder, and none that Dataset.save_to_disk wrote; name a file in it"),
        ("[]", "no data files in state.json"),
        (
            '{"_data_files": [{"filename": "../secret.arrow"}]}',
            "named in state.json and no file in the folder",
        ),
        ('{"_data_files": [{"filename": "link.arrow"}]}', "named in state.json and no file in the folder"),
        ('{"_data_files": [{"filename": "code.arrow"}]}', "cannot be read"),
    ],
)
def test_a_folder_of_another_kind_is_refused_and_nothing_in_it_runs(read, tmp_path, state, message):
    if message == "cannot be read":
        pytest.importorskip("pyarrow", reason="needs pyarrow: decodekit-export[data]")
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.arrow").write_bytes(b"")
    (folder / "link.arrow").symlink_to(tmp_path / "secret.arrow")
    (folder / "code.arrow").write_text("import os")
    (folder / "data.py").write_text("raise SystemExit('executed')")
    if state:
        (folder / "state.json").write_text(state)
    with pytest.raises(DataError, match=message):
        read("data")


def test_without_pyarrow_the_extra_is_named(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for path in ("pairs.parquet", SAVED / "test"):
        with pytest.raises(DataError, match=r"needs pyarrow; pip install 'decodekit-export\[data\]'"):
            read(path, b"" if path == "pairs.parquet" else None)


def test_a_list_of_objects_is_refused_with_the_way_to_lines(read):
    with pytest.raises(DataError, match=r"pairs.json:1: a list; .*jq -c '\.\[\]' pairs.json > pairs.jsonl"):
        read("pairs.json", json.dumps(RECORDS))


def test_what_is_no_regular_file_is_refused(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="pipe: no regular file; it is read twice"):
        read("pipe")


# Files that are damaged


def test_gzip_that_was_cut_short_is_refused(read):
    whole = gzip.compress(lines(*RECORDS) * 50)
    with pytest.raises(DataError, match="damaged or cut short"):
        read("pairs.jsonl.gz", whole[: len(whole) // 2])


def test_gzip_that_unpacks_to_absurdly_much_is_refused(read, monkeypatch):
    monkeypatch.setattr(compressed, "HARMLESS", 1 << 16)
    bomb = gzip.compress(b" " * (8 << 20))
    with pytest.raises(DataError, match="unpacks to more than 200 times its size"):
        read("pairs.jsonl.gz", bomb)


def test_a_line_without_end_is_refused_before_it_is_read(read, monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE", 1 << 20)
    monkeypatch.setattr(compressed, "MAX_RATIO", 10_000)
    with pytest.raises(DataError, match="pairs.jsonl.gz:1: longer than 1,048,576 bytes"):
        read("pairs.jsonl.gz", gzip.compress(b'{"prompt": "' + b"a" * (64 << 20)))


def test_a_file_that_changes_while_it_is_read_is_refused(chat, tmp_path, monkeypatch):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(lines(*RECORDS))
    pair = chat.pair

    def write_on(prompt, completion):
        with path.open("ab") as file:
            file.write(b"\n")
        return pair(prompt, completion)

    monkeypatch.setattr(chat, "pair", write_on)
    with pytest.raises(DataError, match="pairs.jsonl: changed while it was read"):
        load(path, chat, Reading(max_length=99))


def test_a_full_disk_is_told_and_leaves_nothing(chat, tmp_path, monkeypatch):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(lines(*RECORDS) * 4000)
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("the system has no /dev/full")
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: full.open("w+b", buffering=0))
    with pytest.raises(
        DataError, match="no room for the tokens .No space left on device.; name a larger place"
    ):
        load(path, chat, Reading(max_length=99))


def test_rows_on_disk_have_no_name(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with RowFile():
        assert list(tmp_path.iterdir()) == []


# Bad rows


def test_bad_rows_are_skipped_as_far_as_was_asked_for_and_all_are_listed(read, tmp_path):
    content = b"".join(lines(RECORDS[0]) if i % 3 else b"{\n" for i in range(90))
    data = read("pairs.jsonl", content, skip_bad=30)
    assert (data.counts.rows, data.counts.bad) == (60, 30)
    listed = (tmp_path / "pairs.jsonl.bad.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in listed] == [f"pairs.jsonl:{i + 1}" for i in range(0, 90, 3)]
    with pytest.raises(DataError, match=r"and 19 more bad rows\).*; more than the 29 that may be skipped"):
        read("pairs.jsonl", skip_bad=29)


def test_bad_rows_of_a_file_that_is_divided_are_told_once(chat, tmp_path):
    path = tmp_path / "a.jsonl"
    good = [json.dumps({"prompt": f"p{i}", "completion": "c"}) for i in range(40)]
    path.write_text("\n".join(["{", *good, "{"]))
    reading = Reading(max_length=99, skip_bad=5, bad_folder=tmp_path)
    train, valid = load_both(path, Path("30%"), chat, reading)
    assert (train.counts.bad, valid.counts.bad) == (2, 0)
    assert train.counts.rows + valid.counts.rows == 40


def test_nothing_is_listed_where_nothing_is_bad(read, tmp_path):
    read("pairs.jsonl", lines(*RECORDS), skip_bad=3)
    assert not (tmp_path / "pairs.jsonl.bad.txt").exists()


def test_a_file_of_bad_rows_is_refused_however_many_may_be_skipped(read):
    with pytest.raises(DataError, match="no row, nothing to train on; 4 records are bad"):
        read("pairs.jsonl", b"{\n" * 4, skip_bad=9)


def test_special_token_text_is_refused_where_that_is_asked_for(read):
    with pytest.raises(DataError, match=r"pairs.jsonl:1: the text of the special token '<\|end\|>' is in it"):
        read("pairs.jsonl", lines({"prompt": "a<|end|>", "completion": "b"}), refuse_special=True)


def test_nul_is_kept_and_counted(read, spelled):
    data = read("pairs.jsonl", lines({"prompt": "a\0b", "completion": "c\0"}))
    assert spelled(data) == [("a\0b", "c\0")]
    assert data.counts.with_control_characters == 1


# Shapes


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"instruction": "a", "input": "b", "output": "c"}, ("a\n\nb", "c")),
        ({"instruction": "a", "input": "", "output": "c"}, ("a", "c")),
        ({"instruction": "a", "output": "c", "system": "s"}, ("sa", "c")),
        (
            {
                "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
                "tools": "",
            },
            ("a", "b"),
        ),
        (
            {
                "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}],
                "system": "s",
            },
            ("sa", "b"),
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "a"},
                    {"from": "function_call", "value": '{"name": "mat", "arguments": {}}'},
                ],
                "tools": '[{"name": "mat"}]',
            },
            ('[{"name": "mat"}]a', '[{"name": "mat", "arguments": {}}]'),
        ),
        (
            {
                "prompt": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b"},
                    {"role": "user", "content": "c"},
                ],
                "completion": [{"role": "assistant", "content": "d"}],
            },
            ("abc", "d"),
        ),
        ({"prompt": "a", "completion": [{"role": "assistant", "content": "d"}]}, ("a", "d")),
    ],
)
def test_records_of_every_shape(read, spelled, record, expected):
    data = read("rows.jsonl", lines(record))
    assert spelled(data) == [expected]
    assert data.counts.ignored_keys == ()


def test_every_answer_of_a_conversation_is_trained(read, spelled):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    data = read("rows.jsonl", lines({"messages": [{"role": r, "content": c} for r, c in turns]}))
    assert spelled(data) == [("a", "bd")]
    assert data.counts.trained_tokens == 4


def test_columns_are_mapped_by_name(read, spelled):
    columns = columns_of(["conversations=dialogue", "system=rules"])
    turns = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
    data = read("rows.jsonl", lines({"dialogue": turns, "rules": "s", "prompt": "x"}), columns=columns)
    assert spelled(data) == [("sa", "b")]
    assert data.counts.ignored_keys == ("prompt",)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["prompt"], "map must be FIELD=KEY, got 'prompt'"),
        (["promt=a"], "map: no field 'promt'; fields are completion, conversations, input"),
        (["prompt=a", "prompt=b"], "map: prompt is there twice"),
        (["prompt=a", "completion=a"], "map: two fields are read from one key"),
        (["prompt=a", "messages=b"], "map: prompt, messages are fields of different shapes"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_refused(written, message):
    with pytest.raises(ParameterError, match=message):
        columns_of(written)


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ({"messages": "a"}, "'messages' must be a list of messages, found a string"),
        ({"messages": []}, "messages is empty"),
        (
            {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
            "the last mess",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]},
            r"messages\[1\] of the assistant is empty",
        ),
        (
            {"conversations": [{"from": "me", "value": "a"}]},
            r"conversations\[0\].from must be one of human, user",
        ),
        ({"conversations": [{"from": "gpt", "value": None}]}, r"conversations\[0\].value must be a string"),
        (
            {"conversations": [{"from": "function_call", "value": "{"}]},
            r"conversations\[0\].value is no JSON",
        ),
        ({"instruction": 3, "output": "a"}, "'instruction' must be a string, found a number"),
        (
            {"instruction": "a", "response": "b"},
            "no key 'output'; expected 'instruction' and 'output', found",
        ),
        (
            {"prompt": "a", "completion": "b", "messages": []},
            "can be read as prompt, completion and as messages; choose, such as with --map prompt=prompt",
        ),
    ],
)
def test_a_record_of_no_shape_is_told_what_it_lacks(read, record, fault):
    with pytest.raises(DataError, match=f"rows.jsonl:1: {fault}"):
        read("rows.jsonl", lines(record))


def test_a_file_has_one_shape(read):
    with pytest.raises(DataError, match="rows.jsonl:2: no key 'prompt'"):
        read("rows.jsonl", lines(RECORDS[0], {"instruction": "a", "output": "b"}))


# What is held out


def test_a_share_is_held_out_the_same_way_every_time(chat, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(lines(*({"prompt": f"a {i % 500}", "completion": "b"} for i in range(1000))))
    reading = Reading(max_length=99)

    def held_out(seed: int) -> tuple[list[int], list[int]]:
        train, valid = load_both(path, Path("10%"), chat, reading, seed)
        assert train.overlap(valid) == 0  # what says the same stays together
        return [row.line for row in train.rows], [row.line for row in valid.rows]

    train, valid = held_out(1)
    assert sorted(train + valid) == list(range(1, 1001))
    assert 60 <= len(valid) <= 140
    assert held_out(1) == (train, valid) != held_out(2)


def test_what_is_held_out_may_be_a_file(chat, tmp_path):
    for name, records in (("a.jsonl", RECORDS), ("b.jsonl", RECORDS[1:])):
        (tmp_path / name).write_bytes(lines(*records))
    train, valid = load_both(tmp_path / "a.jsonl", tmp_path / "b.jsonl", chat, Reading(max_length=99))
    assert (len(train.rows), len(valid.rows), train.overlap(valid)) == (2, 1, 1)


def test_a_share_of_nothing_or_all_is_refused(chat, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(*RECORDS))
    for share in ("0%", "100%", "250%"):
        with pytest.raises(ParameterError, match=r"valid must be a file or a share in \(0%, 100%\)"):
            load_both(tmp_path / "a.jsonl", Path(share), chat, Reading(max_length=99))
    with pytest.raises(DataError, match="0.001% of a.jsonl: no row, "):
        load_both(tmp_path / "a.jsonl", Path("0.001%"), chat, Reading(max_length=99))


def test_a_copy_of_the_folder_has_its_digest(read, tmp_path):
    pytest.importorskip("pyarrow", reason="needs pyarrow: decodekit-export[data]")
    shutil.copytree(SAVED / "test", tmp_path / "copy")
    assert read(SAVED / "test").sha256 == read("copy").sha256


def test_a_row_costs_a_few_bytes_of_memory_however_long_it_is(chat, tmp_path):
    path = tmp_path / "pairs.jsonl"
    held = []
    for count in (300, 1500):
        path.write_bytes(lines(*({"prompt": f"{i} " * 100, "completion": "a"} for i in range(count))))
        tracemalloc.start()
        data = load(path, chat, Reading(max_length=999))
        held.append(tracemalloc.get_traced_memory())
        tracemalloc.stop()
        assert len(data.rows) == count and data.counts.tokens > 300 * count
    (held_before, peak_before), (held_after, peak_after) = held
    assert held_after - held_before < 100 * 1200
    assert peak_after - peak_before < 200 * 1200
