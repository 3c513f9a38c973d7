"""Hostile folders: what lies around the graph, and what it is called."""

import json
import os
import shutil
from pathlib import Path

import pytest
from onnx_bytes import CONFIG, FLOAT, FLOAT16, INT32, INT64, decoder, node, write_json

from decodekit.bundle import MANIFEST, open_bundle

FIXTURES = Path(__file__).parent.parent / "fixtures"


# M8


IDS = {"input_ids": (("B", "T"), INT64)}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"attention_mask": (("B", "L"), INT64)}, "no input_ids"),
        (
            IDS | {"pixels": (("B", 3), FLOAT), "\x1b[2J": ((), INT64)},
            r"inputs .* has: 'pixels', '\\x1b\[2J'",
        ),
        ({"input_ids": (("B", "T"), INT32)}, "input input_ids is int32 .* a loop feeds int64 of rank 2"),
        (
            {"input_ids": (("T",), INT64)},
            "is int64 of shape .'T',.; a loop feeds int64 of rank 2",
        ),
        ({"input_ids": (("B", 128), INT64)}, "input_ids is fixed to 128 .* export with dynamic axes"),
    ],
)
def test_m8_inputs_that_a_loop_cannot_feed_are_listed(folder, inputs, message, refused_graph):
    refused_graph(folder, message, decoder(inputs=inputs))


@pytest.mark.parametrize(
    ("caches", "message"),
    [
        (
            {"past_key_values.0.key": (("B", 1, "P"), FLOAT)},
            "caches are float32, past_key_values.0.key of shape",
        ),
        ({"past_key_values.0.key": (("B", 1, "P", 8), FLOAT16)}, "caches are float16 and float32"),
        ({"present.0.key": (("B", 1, "P", 8), FLOAT16)}, "caches are float16 and float32"),
        ({"past_key_values.0.value": (("B", 1, "P", 4), FLOAT)}, "alike in all layers, are read"),
        ({"past_key_values.0.value": (("B", 1, "P", 8), 16)}, "caches are bfloat16 and float32"),
        (
            {f"past_key_values.0.{side}": (("B", 1, 512, 8), FLOAT) for side in ("key", "value")},
            "has the fixed shape",
        ),
    ],
)
def test_m8_a_cache_that_is_no_array_of_a_loop_is_described(folder, caches, message, refused_graph):
    refused_graph(folder, message, decoder(**caches))


# M9


def test_m9_fewer_presents_than_pasts_are_refused(folder, refused_graph):
    refused_graph(folder, "no present.0.value", decoder(**{"present.0.value": None}))
    refused_graph(folder, "no input past_key_values.0.value", decoder(**{"past_key_values.0.value": None}))
    refused_graph(folder, "no input past_key_values.0.key, so it keeps no cache", decoder(layers=0))


def test_m9_past_and_present_belong_together_by_name(folder, refused_graph):
    names = ["past_key_values.0.key", "past_key_values.0.value", "present.0.value", "present.0.key"]
    crossed = node("GroupQueryAttention", ["q", "k", "v", *names[:2]], ["out", *names[2:]], "com.microsoft")
    refused_graph(
        folder,
        "past_key_values.0.key goes to .* not to present.0.key",
        decoder(attention="Shape", nodes=[crossed]),
    )


# M10


def test_m10_a_graph_with_more_tokens_than_the_tokenizer_opens(folder):
    (folder / "model.onnx").write_bytes(decoder(logits=("B", "T", 512)))
    write_json(folder / "config.json", **CONFIG | {"vocab_size": 512})
    assert open_bundle(folder).vocabulary == 512


def test_m10_a_graph_with_fewer_tokens_than_the_tokenizer_is_not_decoded(tmp_path, attack):
    folder = Path(shutil.copytree(FIXTURES / "optimum", tmp_path / "optimum"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    known = open_bundle(folder).vocabulary
    more = {"id": known, "content": "<more>", "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    write_json(
        folder / "tokenizer.json", **tokenizer | {"added_tokens": [*tokenizer["added_tokens"], more | flags]}
    )
    attack("load", folder).refused(f"the graph knows {known} tokens, .*; id {known} .* is out of reach")


# M13, M14


@pytest.mark.parametrize("eos", [None, []])
@pytest.mark.parametrize("do", ["open", "load"])
def test_m13_a_folder_in_which_nothing_ends_an_answer_is_refused(attack, folder, eos, do):
    write_json(folder / "generation_config.json", eos_token_id=eos)
    attack(do, folder).refused("no answer would end; add eos_token_id")


@pytest.mark.parametrize(
    ("eos", "message"),
    [
        (10, r"stop_ids must be in \[0, 10\), got 10"),
        (-1, r"stop_ids must be in \[0, 10\), got -1"),
        ([3, 2**70], r"stop_ids must be in \[0, 10\)"),
        (
            "</s>",
            r"generation_config.json: eos_token_id must be an int or a list of them, got '</s>'",
        ),
        ([3, "4"], "eos_token_id must be an int"),
        (True, "eos_token_id must be an int"),
        (3.0, "eos_token_id must be an int"),
        ({"id": 3}, "eos_token_id must be an int"),
    ],
)
def test_m14_an_end_that_is_no_token_is_refused(folder, eos, message, refused):
    write_json(folder / "generation_config.json", eos_token_id=eos)
    refused(folder, message)


# M15


def test_m15_a_manifest_that_is_missing_altered_or_newer_has_three_answers(tmp_path, refused):
    folder = shutil.copytree(FIXTURES / "in_place", tmp_path / "bundle")
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(manifest.replace('"format": 1', '"format": 2'))
    refused(folder, "newer than this decodekit; upgrade it")
    (folder / MANIFEST).write_text(manifest.replace('"sha256": "', '"sha256": "0'))
    refused(folder, "sha256 differs", "BundleHashError")
    (folder / MANIFEST).unlink()
    refused(folder, "no decodekit.json, genai_config.json or config.json says what the model is")


# M16


ACTING = {
    "auto_map": {
        "AutoModelForCausalLM": "modeling_evil.Evil",
        "AutoTokenizer": ["tokenization_evil.Evil", None],
    },
    "trust_remote_code": True,
    "_attn_implementation_internal": "someone/kernels",
    "custom_pipelines": {"text-generation": {"impl": "modeling_evil.Pipeline"}},
    "tokenizer_class": "Evil",
}


@pytest.mark.parametrize("do", ["open", "inspect"])
def test_m16_a_configuration_that_names_code_runs_and_fetches_nothing(folder, do, attack):
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    (folder / "tokenization_evil.py").write_text("raise SystemExit('ran')")
    write_json(folder / "config.json", **CONFIG, **ACTING)
    write_json(folder / "tokenizer_config.json", **ACTING)
    report = attack(do, folder)
    assert report.accepted() == [3] if do == "open" else report.accepted()[0] == 0
    assert not [path for path in report.opened if "evil" in path]


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[" * 200_000, '{"a":' * 100_000, '{"a": 1' + "0" * 5000 + "}"]
)
def test_m16_a_configuration_that_is_none_is_named(folder, name, text, refused):
    (folder / name).write_text(text)
    refused(folder, f"{name}: not a JSON object")


def test_m16_a_configuration_without_end_is_not_read(folder, refused):
    with (folder / "config.json").open("r+b") as f:
        f.truncate(1 << 30)
    refused(folder, f"config.json: not a JSON object .{1 << 30} bytes; at most")


@pytest.mark.parametrize("said", [None, "x", [], {"decoder": []}, {"decoder": {"filename": 1}}])
def test_m16_a_genai_config_of_another_shape_is_named(folder, said, refused):
    write_json(folder / "genai_config.json", model=said)
    refused(folder, "genai_config.json: no model.decoder.filename")


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "model.onnx/..", "a\nb"])
def test_m16_a_genai_config_names_no_graph_outside(folder, name, refused):
    write_json(folder / "genai_config.json", model={"decoder": {"filename": name}, "context_length": 8})
    refused(folder, "leaves the folder, though it is the graph")


# M17


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"model": {}}', "[" * 100_000, '{"a":' * 100_000])
def test_m17_a_tokenizer_that_is_none_is_named(folder, text, refused):
    (folder / "tokenizer.json").write_text(text)
    refused(folder, "tokenizer.json: not a tokenizer.json", "TokenizerError")


def test_m17_a_tokenizer_cut_off_anywhere_is_named(folder, refused):
    content = (folder / "tokenizer.json").read_bytes()
    for i in range(16):
        (folder / "tokenizer.json").write_bytes(content[: i * len(content) // 16])
        refused(folder, "tokenizer.json", "TokenizerError")


def test_m17_a_tokenizer_of_half_a_gigabyte_is_not_read(folder, refused):
    with (folder / "tokenizer.json").open("r+b") as f:
        f.truncate(500 << 20)
    refused(folder, f"tokenizer.json: {500 << 20} bytes; at most", "TokenizerError")


# M23


@pytest.mark.parametrize("name", ["with spaces", "模型", "new line\n", "x" * 255, "a'b\"c", "%s{0}"])
def test_m23_a_folder_may_have_any_name(folder, name):
    named = folder.rename(folder.parent / name)
    assert open_bundle(named).name == name


def test_m23_a_folder_that_cannot_be_written_opens(folder):
    for path in (*folder.iterdir(), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert open_bundle(folder).stop_ids == {3}
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "tokenizer.json", "."])
def test_m23_what_cannot_be_read_is_named(folder, name, refused):
    (folder / name).chmod(0)
    if os.access(folder / name, os.R_OK):
        pytest.skip("the superuser may read everything")
    try:
        refused(folder, "folder", ("BundleError", "TokenizerError"))
    finally:
        (folder / name).chmod(0o755)


def test_m23_a_name_that_no_file_system_takes_is_named(refused):
    refused("x" * 5000, "cannot be read .*File name too long")
    refused("a\0b", "no such folder")
