"""`decodekit batch` with a real model."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date

import pytest

from decodekit import progress_bars
from decodekit.jobs.answering import row_seed
from decodekit.jobs.openai_format import CHAT, TEXT
from decodekit.schema import schema

CHAIN = ["-p", "temperature=0.9", "-p", "top_p=0.9"]
PROMPTS = [f"Give me a tagline for {what}." for what in ("a bakery", "a bike shop", "a zoo", "my new band")]


@pytest.fixture
def batch(run, tmp_path):
    """Exit status, records and what was said, of rows and further words of the command line."""

    def call(rows, *words, name="out.jsonl", model="tagline"):
        path = tmp_path / "in.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines))
        status, out, err = run("batch", model, str(path), str(tmp_path / name), *words)
        found = tmp_path / name
        records = [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []
        return status, records, out + err

    return call


def openai(id, url=CHAT, **body):
    asked = {"messages": [{"role": "user", "content": PROMPTS[0]}]} if url == CHAT else {"prompt": PROMPTS[0]}
    return {"custom_id": id, "method": "POST", "url": url, "body": {"model": "tagline", **asked, **body}}


def test_a_row_is_decoded_as_by_itself_with_a_seed_of_its_own(batch, tagline):
    rows = [{"id": f"r{i}", "prompt": prompt} for i, prompt in enumerate(PROMPTS)]
    status, records, _ = batch(rows, *CHAIN, "--seed", "7")
    assert status == 0
    for row, record in zip(rows, records, strict=True):
        alone = tagline.generate(row["prompt"], "temperature=0.9, top_p=0.9", seed=row_seed(7, row["id"]))
        assert (record["id"], record["text"], record["seed"]) == (row["id"], alone.text, alone.seed)
        assert record["finish_reason"] == alone.finish_reason
        assert record["usage"]["completion_tokens"] == alone.usage.completion_tokens


def test_the_order_and_the_number_of_rows_together_change_no_record(batch):
    rows = [
        {"id": f"r{i}", "prompt": f"{PROMPTS[i % 4]} {i}", "max_new_tokens": 1 + i % 9} for i in range(40)
    ]
    _, records, _ = batch(rows, *CHAIN, "--seed", "7")
    for name, words in {"a": ["--order", "done"], "b": ["--max-rows", "3"], "c": ["--deterministic"]}.items():
        _, others, _ = batch(rows, *CHAIN, "--seed", "7", *words, name=name)
        assert sorted(others, key=lambda r: r["row"]) == records


@pytest.mark.parametrize(
    ("own", "chain", "options"),
    [
        ({"temperature": 0.7, "top_k": 5}, "temperature=0.7, top_k=5", {}),
        ({"top_k": 5, "temperature": 0.7}, "temperature=0.7, top_k=5", {}),
        ({"temperature": 0, "repetition_penalty": 1.3}, "repetition_penalty=1.3, greedy", {}),
        ({"chain": "min_p=0.1, temperature=1.5"}, "min_p=0.1, temperature=1.5", {}),
        ({"chain": ["min_p=0.1", "temperature=1.5"]}, "min_p=0.1, temperature=1.5", {}),
        (
            {"decodekit": {"processors": [{"name": "min_p", "p": 0.1}, {"name": "temperature", "t": 1.5}]}},
            "min_p=0.1, temperature=1.5",
            {},
        ),
        (
            {"decodekit": {"stopping": [{"name": "max_new_tokens", "n": 2}]}},
            "top_p=0.9",
            {"max_new_tokens": 2},
        ),
        ({"stop": ["e"], "seed": 3}, "top_p=0.9", {"stop": ["e"], "seed": 3}),
        (
            {"min_new_tokens": 20, "max_new_tokens": 25, "ignore_eos": None},
            "top_p=0.9",
            {"min_new_tokens": 20, "max_new_tokens": 25},
        ),
    ],
)
def test_a_row_may_have_a_chain_and_options_of_its_own(batch, tagline, own, chain, options):
    _, records, _ = batch([{"id": "a", "prompt": PROMPTS[1], **own}], "-p", "top_p=0.9", "--seed", "7")
    alone = tagline.generate(PROMPTS[1], chain, **{"seed": row_seed(7, "a"), **options})
    assert records[0]["text"] == alone.text


def test_messages_ids_and_texts_are_prompts(batch, tagline):
    ids = list(tagline.encode(PROMPTS[0]))
    parts = [{"type": "text", "text": PROMPTS[0][:9]}, {"type": "text", "text": PROMPTS[0][9:]}]
    rows = [
        {"prompt": PROMPTS[0]},
        {"prompt": ids},
        {"messages": [{"role": "user", "content": PROMPTS[0]}]},
        {"messages": [{"role": "user", "content": parts}]},
    ]
    _, records, _ = batch(rows)
    assert [r["id"] for r in records] == ["row-0", "row-1", "row-2", "row-3"]
    assert {r["text"] for r in records} == {tagline.generate(PROMPTS[0]).text}


BAD = [
    ('{"id": "x", "prompt": ', "E_INPUT", "not JSON"),
    ("[1]", "E_INPUT", "an object is expected"),
    ({}, "E_PROMPT", "either a prompt or messages"),
    ({"prompt": 5}, "E_PROMPT", "prompt must be a text or a list of token ids, got 5"),
    ({"prompt": ""}, "E_PROMPT", "prompt is empty"),
    ({"prompt": ["a", "b"]}, "E_PROMPT", "prompt must be a text or a list"),
    ({"prompt": [10**9]}, "E_PROMPT", "must be a token id"),
    ({"prompt": "x " * 9999}, "E_CONTEXT", "context window"),
    ({"messages": [{"role": "user"}]}, "E_PROMPT", "messages[0].content must be a string"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        "E_PROMPT",
        "only parts of type 'text'",
    ),
    ({"messages": "hello"}, "E_PROMPT", "messages must be a list"),
    ({"prompt": "x", "temprature": 1}, "E_PARAMETER", "did you mean 'temperature'?"),
    ({"prompt": "x", "top_p": 3}, "E_PARAMETER", "top_p: p must be in [0, 1], got 3"),
    ({"prompt": "x", "top_p": "high"}, "E_PARAMETER", "top_p"),
    ({"prompt": "x", "max_new_tokens": 0}, "E_PARAMETER", "max_new_tokens"),
    ({"prompt": "x", "max_new_tokens": "many"}, "E_PARAMETER", "max_new_tokens"),
    ({"prompt": "x", "n": 1000}, "E_PARAMETER", "n must be in [1, 128]"),
    ({"prompt": "x", "n": 2, "sample": 1}, "E_PARAMETER", "exclude each other"),
    ({"prompt": "x", "stop": [3]}, "E_PARAMETER", "stop"),
    ({"prompt": "x", "chain": "no_such"}, "E_UNKNOWN_NAME", "no logits processor named 'no_such'"),
    ({"prompt": "x", "chain": 7}, "E_PARAMETER", "chain must be a text or a list of texts"),
    ({"prompt": "x", "chain": ["greedy", {}]}, "E_PARAMETER", "chain must be a text or a list of texts"),
    (
        {"prompt": "x", "chain": "top_p=0.9", "top_p": 0.9},
        "E_PARAMETER",
        "chain and top_p exclude each other",
    ),
    ({"prompt": "x", "decodekit": []}, "E_PARAMETER", "decodekit must be an object"),
    ({"prompt": "x", "decodekit": {"chain": []}}, "E_PARAMETER", "no field named decodekit.chain"),
    ({"prompt": "x", "decodekit": {"processors": ["top_p"]}}, "E_PARAMETER", "must be a list of"),
    ({"prompt": "x", "decodekit": {"processors": [{"name": "top_p"}]}}, "E_PARAMETER", "top_p: missing"),
    ({"prompt": "x", "decodekit": {"processors": [{"name": "top_p", "p": 1, "q": 1}]}}, "E_PARAMETER", "'q'"),
    ({"prompt": "x", "decodekit": {"stopping": [{"name": "nope"}]}}, "E_UNKNOWN_NAME", "nope"),
    ({"prompt": "x", "completion": "y"}, "E_PARAMETER", "completion is what --score scores"),
    (openai("m", model="gpt-4"), "E_PARAMETER", "body.model must be 'tagline'"),
    (openai("s", stream=True), "E_PARAMETER", "body.stream: True cannot be honoured"),
    (openai("t", tools=[{"type": "function"}]), "E_PARAMETER", "body.tools"),
    (openai("f", response_format={"type": "json_object"}), "E_PARAMETER", "body.response_format"),
    (openai("l", top_logprobs=2), "E_PARAMETER", "needs logprobs true"),
    (openai("p", prompt="x"), "E_PARAMETER", "no field named body.prompt"),
    (openai("2", max_tokens=2, max_completion_tokens=2), "E_PARAMETER", "exclude each other"),
    ({**openai("u"), "url": "/v1/embeddings"}, "E_PARAMETER", "method and url must be POST and one of"),
    ({**openai("v"), "url": [CHAT]}, "E_PARAMETER", "method and url must be POST and one of"),
    ({**openai("b"), "body": 3}, "E_PARAMETER", "body must be an object"),
    ({**openai("e"), "more": 3}, "E_PARAMETER", "no field named more"),
]


def test_every_bad_row_is_a_record_in_its_place_and_the_others_are_answered(batch, tagline):
    rows = []
    for bad, _, _ in BAD:
        rows += [{"prompt": PROMPTS[0]}, bad]
    status, records, said = batch(rows, "--json")
    assert status == 1
    assert {r["text"] for r in records[::2]} == {tagline.generate(PROMPTS[0]).text}
    for i, (record, (bad, code, message)) in enumerate(zip(records[1::2], BAD, strict=True)):
        assert record["row"] == 2 * i + 1 and record["error"]["line"] == 2 * i + 2, bad
        assert code in record["error"]["code"] and message in record["error"]["message"], (bad, record)
        assert "Traceback" not in record["error"]["message"]
    summary = json.loads(said[said.index("{") :])
    assert summary["rows"] == 2 * len(BAD) and sum(summary["errors"].values()) == len(BAD)
    assert summary["finish_reasons"] == {"stop": len(BAD)}


def test_the_openai_format_is_answered_in_it(batch, tagline):
    rows = [
        openai("chat", temperature=0.8, seed=5, max_tokens=9, n=2, user="me", stop=None),
        openai("logprobs", logprobs=True, top_logprobs=2, temperature=0),
        openai("text", TEXT, max_tokens=4, logprobs=1, temperature=0, decodekit=None),
        openai("default", seed=6),
        openai("own", seed=6, decodekit={"processors": [{"name": "top_k", "k": 1}]}),
        openai("ends", seed=6, decodekit={"stopping": [{"name": "max_new_tokens", "n": 3}]}),
    ]
    status, records, _ = batch(rows)
    assert status == 0 and [r["custom_id"] for r in records] == [row["custom_id"] for row in rows]
    assert all(r["error"] is None and r["response"]["status_code"] == 200 for r in records)
    chat, logprobs, text, default, own, ends = (r["response"]["body"] for r in records)

    alone = tagline.generate(PROMPTS[0], "temperature=0.8", n=2, seed=5, max_new_tokens=9)
    assert [c["message"] for c in chat["choices"]] == [
        {"role": "assistant", "content": c.text, "refusal": None} for c in alone
    ]
    assert chat["object"] == "chat.completion" and chat["model"] == "tagline" and chat["seed"] == 5
    assert (
        chat["usage"]["total_tokens"] == chat["usage"]["prompt_tokens"] + chat["usage"]["completion_tokens"]
    )

    greedy = tagline.generate(PROMPTS[0], logprobs=2)
    content = logprobs["choices"][0]["logprobs"]["content"]
    assert [c["logprob"] for c in content] == pytest.approx([t.logprob for t in greedy.tokens], abs=1e-4)
    assert all(len(c["top_logprobs"]) == 2 for c in content)
    assert all(bytes(c["bytes"]).decode() == c["token"] for c in content[:-1])
    assert (content[-1]["token"], content[-1]["bytes"]) == ("<|end|>", [])

    said = text["choices"][0]
    assert text["object"] == "text_completion" and said["finish_reason"] == "length"
    assert len(said["logprobs"]["tokens"]) == len(said["logprobs"]["text_offset"]) == 4

    assert (
        default["choices"][0]["message"]["content"]
        == tagline.generate(PROMPTS[0], "temperature=1", seed=6).text
    )
    assert own["choices"][0]["message"]["content"] == greedy.text
    assert ends["usage"]["completion_tokens"] == 3
    assert default["choices"][0]["message"]["content"].startswith(ends["choices"][0]["message"]["content"])


def test_every_strategy_can_be_asked_for_by_name(batch, plugins):
    values = {"number": 0.5, "integer": 2, "object": {"5": 1.0}, "array": [3], "string": "x", "boolean": True}
    rows = []
    for name, (factory, _) in plugins.logits_processors.entries.items():
        properties = schema(factory)["properties"]
        options = {o: p.get("default", values[p.get("type", "number")]) for o, p in properties.items()}
        rows.append({"id": name, "prompt": "x", "decodekit": {"processors": [{"name": name, **options}]}})
    status, records, said = batch(rows, "--max-new-tokens", "2")
    assert status == 0, said
    assert len(records) == len(plugins.logits_processors.entries)


def test_completions_are_scored(batch, tagline):
    rows = [{"id": p, "prompt": p, "completion": "Fresh every day."} for p in PROMPTS]
    status, records, said = batch([*rows, {"prompt": "x"}], "--score")
    assert status == 1 and "there is no completion to score" in records[4]["error"]["message"]
    for record in records[:4]:
        alone = tagline.score("Fresh every day.", prompt=record["id"])
        assert record["score"]["perplexity"] == pytest.approx(alone.perplexity, rel=1e-5)
        assert record["score"]["tokens"] == len(alone.tokens)
    assert "perplexity" in said
    _, records, _ = batch([{**rows[0], "top_p": 0.9, "n": 2}], "--score", name="told.jsonl")
    assert "a chain, n: changes no score" in records[0]["error"]["message"]


def test_fields_are_carried_and_renamed(batch, tagline):
    rows = [{"question": PROMPTS[0], "topic": "food", "n": None}]
    _, records, _ = batch(rows, "--field", "prompt=question", "--carry", "topic")
    assert (
        records[0]["carried"] == {"topic": "food"} and records[0]["text"] == tagline.generate(PROMPTS[0]).text
    )
    _, records, _ = batch(rows, "--field", "prompt=question", name="other.jsonl")
    assert "no field named topic" in records[0]["error"]["message"]


def test_what_is_carried_asks_for_nothing_and_names_nothing(batch, tagline):
    rows = [{"id": 7, "prompt": PROMPTS[0], "url": "a page", "temperature": "warm"} for _ in range(2)]
    _, records, said = batch(rows, *(w for name in ("id", "url", "temperature") for w in ("--carry", name)))
    assert [r["id"] for r in records] == ["row-0", "row-1"], said
    assert records[1]["carried"] == {"id": 7, "url": "a page", "temperature": "warm"}
    assert records[1]["text"] == tagline.generate(PROMPTS[0]).text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-p", "no_such"], "no logits processor named 'no_such'"),
        (["-p", "top_p=7"], "top_p: p must be in [0, 1], got 7"),
        (["-c", "no_such"], "no stopping criterion named"),
        (["--max-new-tokens", "-3"], "max_new_tokens"),
        (["--group", "0"], "--group must be"),
        (["--max-errors", "-1"], "--max-errors must be"),
        (["--field", "prompt"], "--field must be NAME=THEIRS"),
        (["-n", "0"], "n must be in [1, 128]"),
        (["--adapter", "none"], "none named 'none'"),
        (["--score", "-p", "top_p=0.9"], "--score takes no chain"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
    ],
)
def test_what_is_wrong_for_every_row_is_refused_before_the_first(batch, tmp_path, words, said):
    status, records, out = batch([{"prompt": "x"}], *words)
    assert status == 2 and said in out and not records and not (tmp_path / "out.jsonl").exists()


def test_changed_settings_are_refused_by_name_and_failed_rows_are_tried_again(batch):
    rows = [{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x", "top_p": 9}]
    assert batch(rows, "-p", "temperature=0.8")[0] == 1
    status, _, said = batch(rows, "-p", "temperature=0.7")
    assert status == 2 and 'settings chain was ["temperature=0.8"] and is ["temperature=0.7"]' in said
    status, records, _ = batch(rows, "-p", "temperature=0.8", "--retry-errors")
    assert status == 1 and [r["id"] for r in records] == ["a", "b"]
    status, _, said = batch(rows, "-p", "temperature=0.8", "--max-errors", "0", name="strict.jsonl")
    assert status == 2 and "E_ERROR_LIMIT" in said


def test_progress_says_how_fast_what_a_row_costs_and_how_long_still(batch, monkeypatch, tmp_path):
    monkeypatch.setattr(progress_bars, "LINE_SECONDS", 0.0)
    rows = [{"id": f"r{i}", "prompt": PROMPTS[0], "max_new_tokens": 4} for i in range(6)]
    _, _, said = batch([*rows, {"id": "bad"}])
    line = next(line for line in said.splitlines() if line.startswith("6 of 7 rows"))
    assert re.fullmatch(r"6 of 7 rows, [\d,]+ tokens/s, [\d,.]+ ms and 4\.0 tokens a row, \d+ s left", line)
    assert "1 failed" in said and "E_PROMPT" in said and "half" not in said
    out = tmp_path / "out.jsonl"
    out.write_bytes(out.read_bytes()[:-9])
    _, records, said = batch([*rows, {"id": "bad"}])
    assert len(records) == 7 and "is not as it was last synced" in said and "6 of 7 rows are done" in said


def test_rows_come_from_csv_and_gzip(run, tmp_path, tagline):
    (tmp_path / "in.csv").write_text('id,prompt,temperature\na,"Give me a tagline for a bakery.",0\n')
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.write(json.dumps({"id": "a", "prompt": PROMPTS[0]}))
    for name in ("in.csv", "in.jsonl.gz"):
        assert run("batch", "tagline", str(tmp_path / name), str(tmp_path / f"{name}.out"))[0] == 0
        assert json.loads((tmp_path / f"{name}.out").read_text())["text"] == tagline.generate(PROMPTS[0]).text


def test_parquet_goes_in_and_comes_out(run, tmp_path, tagline):
    pa = pytest.importorskip("pyarrow", reason="needs decodekit[parquet]")
    pq = pytest.importorskip("pyarrow.parquet", reason="needs decodekit[parquet]")
    table = pa.table({"id": ["a", "b"], "prompt": [PROMPTS[0], PROMPTS[1]], "top_p": [None, 7.0]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=1)
    words = ["batch", "tagline", str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet")]
    for _ in range(2):
        assert run(*words)[0] == 1
        first, second = pq.read_table(tmp_path / "out.parquet").to_pylist()
        assert first["text"] == tagline.generate(PROMPTS[0]).text and first["completion_tokens"] > 0
        assert "E_PARAMETER" in second["error"] and json.loads(second["record"])["row"] == 1
    table = table.append_column("day", pa.array([date(2026, 1, 2), None]))
    pq.write_table(table, tmp_path / "in.parquet")
    assert run(*words[:3], str(tmp_path / "day.jsonl"), "--carry", "day")[0] == 1
    day, none = (json.loads(line) for line in (tmp_path / "day.jsonl").read_text().splitlines())
    assert "line 1: carried: Object of type date is not JSON serializable" in day["error"]["message"]
    assert "carried" not in none and "top_p" in none["error"]["message"]
    (tmp_path / "other.parquet").write_text("x")
    assert "no job wrote it" in run(*words[:3], str(tmp_path / "other.parquet"))[2]


def test_a_command_that_was_killed_goes_on(tmp_path):
    rows = [{"id": f"r{i}", "prompt": f"{PROMPTS[i % 4]} {i}"} for i in range(90)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def words(name):
        where = ["tagline", str(tmp_path / "in.jsonl"), str(tmp_path / name)]
        return [sys.executable, "-m", "decodekit.cli", "batch", *where, "--seed", "1", "--group", "4", *CHAIN]

    environment = {**os.environ, "DECODEKIT_PLUGINS": ""}
    subprocess.run(words("whole"), check=True, capture_output=True, env=environment)
    for end in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(words("out"), env=environment, stderr=subprocess.DEVNULL)
        before = (tmp_path / "out").stat().st_size if (tmp_path / "out").exists() else 0
        while not (tmp_path / "out").exists() or (tmp_path / "out").stat().st_size <= before:
            assert process.poll() in (None, 0), "it ended before it wrote"
            time.sleep(0.005)
        process.send_signal(end)
        assert process.wait() in (-signal.SIGKILL, 130)
    assert (tmp_path / "out").stat().st_size < (tmp_path / "whole").stat().st_size
    subprocess.run(words("out"), check=True, capture_output=True, env=environment)
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
