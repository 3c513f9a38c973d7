import json
import shutil
from pathlib import Path

import pytest
from onnx_bytes import CONFIG, FLOAT16, INT32, INT64, decoder, node, write_folder, write_json

import decodekit
from decodekit import cli
from decodekit.bundle import open_bundle
from decodekit.errors import BundleError

FIXTURES = Path(__file__).parent / "fixtures"
GREEDY = json.loads((FIXTURES / "greedy.json").read_text())


@pytest.fixture
def folder(tmp_path, tokenizer_file):
    return write_folder(tmp_path / "made elsewhere", tokenizer_file)


def graph_of(folder, content):
    (folder / "model.onnx").write_bytes(content)
    return open_bundle(folder).manifest["graph"]


def copy(kind, tmp_path):
    return shutil.copytree(FIXTURES / kind, tmp_path / kind)


# What is found


def test_an_export_of_optimum_is_described():
    bundle = open_bundle(FIXTURES / "optimum")
    assert (bundle.manifest["origin"], bundle.name) == ("optimum", "optimum")
    assert (bundle.cache.kind, bundle.cache.layers, bundle.cache.kv_heads) == ("concatenating", 2, 1)
    assert (bundle.cache.head_dim, bundle.cache.dtype, bundle.logits_dtype) == (16, "float32", "float32")
    assert (bundle.vocabulary, bundle.context_length, bundle.stop_ids) == (257, 600, {0})
    assert (bundle.positions, bundle.chat_template) == ("input", None)
    assert {"config.json", "generation_config.json", "model.onnx", "tokenizer.json"} < {
        *bundle.manifest["files"]
    }


def test_a_folder_of_the_model_builder_is_described():
    bundle = open_bundle(FIXTURES / "genai")
    assert bundle.manifest["origin"] == "onnxruntime-genai"
    assert (bundle.cache.kind, bundle.cache.layers, bundle.cache.kv_heads) == ("in_place", 2, 1)
    assert bundle.cache.head_dim == 16  # a symbol in the graph, a number in genai_config.json
    assert (bundle.context_length, bundle.stop_ids, bundle.positions) == (600, {0}, "operator")
    assert {"model.onnx.data", "genai_config.json"} < {*bundle.manifest["files"]}


@pytest.mark.parametrize("kind", ["optimum", "genai"])
def test_a_folder_of_others_decodes_to_the_tokens_of_pytorch(kind):
    decoder = decodekit.load(FIXTURES / kind, plugins=decodekit.load_plugins(only=()))
    completion = decoder.generate(GREEDY["prompt"], max_new_tokens=len(GREEDY["answer"]))
    assert list(completion.ids) == GREEDY["answer"]


def test_on_the_hub_graphs_lie_in_a_folder_below_and_one_is_chosen_by_its_path(tmp_path):
    folder = copy("optimum", tmp_path)
    (folder / "onnx").mkdir()
    graph = (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
    shutil.copy(graph, folder / "onnx" / "model_q4.onnx")
    plain, chosen = open_bundle(folder), open_bundle(folder / "onnx" / "model_q4.onnx")
    assert (plain.graph, plain.name) == (graph, "optimum")
    assert (chosen.graph, chosen.name) == (folder / "onnx" / "model_q4.onnx", "optimum.model_q4")
    assert plain.manifest["origin"] == chosen.manifest["origin"] == "hub"
    assert plain.tokenizer == chosen.tokenizer == folder / "tokenizer.json"
    assert open_bundle(folder / "onnx").manifest == plain.manifest


def test_a_variant_of_which_there_is_no_plain_one_is_named(folder):
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx" / "model_int8.onnx")
    with pytest.raises(BundleError, match="give one of its graphs by path: .'onnx/model_int8.onnx'."):
        open_bundle(folder)


def test_other_folders_are_no_models(tmp_path):
    with pytest.raises(BundleError, match=r"neither decodekit.json nor an .onnx file; write a bundle with"):
        open_bundle(tmp_path)
    with pytest.raises(BundleError, match=r"other.onnx: No such file or directory, though it is the graph"):
        open_bundle(tmp_path / "other.onnx")


def test_a_file_of_a_bundle_is_not_taken_out_of_it():
    with pytest.raises(BundleError, match=r"a file of a bundle; give the bundle's folder"):
        open_bundle(FIXTURES / "in_place" / "model.onnx")


# Stop ids and template


def test_every_token_that_some_file_calls_an_end_is_one(folder, tokenizer):
    write_json(folder / "generation_config.json", eos_token_id=[3, 4, 3])
    write_json(folder / "config.json", **CONFIG, eos_token_id=5)
    write_json(folder / "tokenizer_config.json", eos_token="<|user|>")
    write_json(folder / "special_tokens_map.json", eos_token={"content": "<|assistant|>"})
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|end|>{% endfor %}")
    named = {tokenizer.id(token) for token in ("<|user|>", "<|assistant|>", "<|end|>")}
    assert open_bundle(folder).stop_ids == {3, 4, 5} | named


def test_the_end_of_genai_config_joins_the_others(folder):
    described = {"eos_token_id": [6, 7], "context_length": 32, "decoder": {"filename": "model.onnx"}}
    write_json(folder / "genai_config.json", model=described)
    bundle = open_bundle(folder)
    assert bundle.stop_ids == {3, 6, 7}
    assert bundle.context_length == 32


def test_a_model_without_an_end_is_refused(folder):
    write_json(folder / "generation_config.json")
    with pytest.raises(BundleError, match="no answer would end; add eos_token_id to generation_config"):
        open_bundle(folder)


ONE_OF_TWO = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "two"}]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("chat_template.json", {"chat_template": "three"}, "three"),
        ("tokenizer_config.json", {"chat_template": [{"name": "tool_use", "template": "x"}]}, "three"),
        (
            "tokenizer_config.json",
            {
                "chat_template": [
                    {"name": "tool_use", "template": "x"},
                    {"name": "default", "template": "two"},
                ]
            },
            "two",
        ),
        ("tokenizer_config.json", {"chat_template": "one"}, "one"),
        ("chat_template.jinja", None, "zero"),
    ],
)
def test_a_template_may_stand_in_three_files(folder, file, content, expected):
    write_json(folder / "chat_template.json", chat_template="three")
    (folder / file).write_text("zero" if content is None else json.dumps(content))
    assert open_bundle(folder).chat_template == expected


def test_a_template_whose_end_cannot_be_read_is_told(folder):
    (folder / "chat_template.jinja").write_text("{{ raise_exception('system first') }}")
    assert "the token that ends an answer in the chat template (chat template: system first)" in str(
        open_bundle(folder).manifest["missing"]
    )


# What contradicts itself


@pytest.mark.parametrize(
    ("key", "number", "message"),
    [
        ("num_hidden_layers", 2, "the graph has layers 1, num_hidden_layers of config.json says 2"),
        ("num_key_value_heads", 4, "the graph has kv_heads 1, num_key_value_heads of config.json says 4"),
        ("head_dim", 16, "the graph has head_dim 8, head_dim of config.json says 16"),
        ("vocab_size", 11, "the graph has vocabulary 10, vocab_size of config.json says 11"),
    ],
)
def test_a_graph_and_a_configuration_that_disagree_are_both_named(folder, key, number, message):
    write_json(folder / "config.json", **CONFIG | {key: number})
    with pytest.raises(BundleError, match=f"{message}; they are of different models"):
        open_bundle(folder)


def test_a_number_that_nobody_gives_is_asked_for(folder):
    caches = {f"past_key_values.0.{side}": (("B", 1, "P", "D"), 1) for side in ("key", "value")}
    (folder / "model.onnx").write_bytes(decoder(**caches))
    with pytest.raises(BundleError, match="head_dim stands neither in the graph nor in a configuration"):
        open_bundle(folder)
    write_json(folder / "config.json", vocab_size=10)
    with pytest.raises(BundleError, match="no context length; set max_position_embeddings in config.json"):
        open_bundle(folder)


def test_a_tokenizer_that_is_not_there_is_asked_for(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"no tokenizer.json; write one with transformers: AutoTokenizer"):
        open_bundle(folder)


def test_a_merged_decoder_is_refused_with_the_reason(folder):
    branch = {"input_ids": (("B", "T"), INT64), "use_cache_branch": ((1,), 9)}
    (folder / "model.onnx").unlink()
    (folder / "decoder_model_merged.onnx").write_bytes(decoder(inputs=branch))
    with pytest.raises(BundleError, match="use_cache_branch chooses between two graphs, one of which drops"):
        open_bundle(folder)


def test_logits_of_the_last_place_alone_are_refused(folder):
    with pytest.raises(BundleError, match="logits of the last place only; export without prune_lm_head"):
        graph_of(folder, decoder(logits=("B", 1, 10)))


# Caches and positions


def test_the_kind_of_cache_is_read_off_the_operator_that_takes_the_past(folder):
    assert graph_of(folder, decoder())["cache"]["kind"] == "concatenating"
    assert graph_of(folder, decoder(attention="GroupQueryAttention"))["cache"]["kind"] == "in_place"
    with pytest.raises(
        BundleError, match=r"past_key_values.0.key goes to .'ScatterND'., not to present.0.key"
    ):
        graph_of(folder, decoder(attention="ScatterND"))


def test_a_cache_of_half_precision_is_one(folder):
    names = ("past_key_values.0.key", "past_key_values.0.value", "present.0.key", "present.0.value")
    half = dict.fromkeys(names, (("B", 1, "P", 8), FLOAT16))
    assert graph_of(folder, decoder(**half))["cache"]["dtype"] == "float16"


IDS, MASK = {"input_ids": (("B", "T"), INT64)}, {"attention_mask": (("B", "P + T"), INT64)}
LENGTHS = {"lengths": (("B",), INT32)}
RUNNING_SUM = [node("CumSum", ["attention_mask", "axis"], ["sum"]), node("Sub", ["sum", "one"], ["places"])]
FROM_SHAPE = [node("Shape", ["input_ids"], ["size"]), node("Range", ["zero", "size", "one"], ["places"])]
TABLE = [node("Gather", ["table", "input_ids"], ["words"]), node("Gather", ["places_table", "places"], ["p"])]
ROTARY = [node("Mul", ["frequencies", "places"], ["angles"]), node("Cos", ["angles"], ["cos"])]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({}, "input"),
        ({"inputs": IDS | MASK, "attention": "turning GroupQueryAttention"}, "operator"),
        ({"inputs": IDS | LENGTHS, "attention": "turning GroupQueryAttention"}, "operator"),
        ({"inputs": IDS | MASK, "attention": "GroupQueryAttention"}, "unknown"),
        ({"inputs": IDS | MASK, "nodes": RUNNING_SUM + TABLE}, "mask"),
        ({"inputs": IDS | MASK, "nodes": RUNNING_SUM + ROTARY}, "mask"),
        ({"inputs": IDS | MASK, "nodes": FROM_SHAPE + TABLE}, "unknown"),
        ({"inputs": IDS | MASK, "nodes": FROM_SHAPE + ROTARY + RUNNING_SUM}, "unknown"),
        ({"inputs": IDS | MASK, "nodes": RUNNING_SUM}, "unknown"),
        ({"inputs": IDS, "attention": "turning GroupQueryAttention"}, "unknown"),
    ],
)
def test_where_positions_come_from_is_followed_through_the_graph(folder, parts, expected):
    assert graph_of(folder, decoder(**parts))["positions"] == expected


# What stands for the missing manifest


def test_a_folder_is_named_by_the_content_of_its_files(tmp_path):
    folder = copy("optimum", tmp_path)
    before = open_bundle(folder).sha256
    assert before == open_bundle(FIXTURES / "optimum").sha256 != open_bundle(FIXTURES / "genai").sha256
    write_json(folder / "generation_config.json", eos_token_id=0)
    assert open_bundle(folder).sha256 != before


def test_what_a_bundle_would_have_is_told(folder):
    missing = open_bundle(folder).manifest["missing"]
    assert [sentence.partition(":")[0] for sentence in missing] == [
        "a comparison with PyTorch",
        "hashes of its files",
        "an in-place cache",
        "an input logit_positions",
        "a chat template",
    ]


def test_inspect_says_what_was_found_and_what_is_missing(capsys):
    assert cli.main(["inspect", str(FIXTURES / "genai")]) == 0
    said = capsys.readouterr().out
    for words in ("the model builder of onnxruntime-genai", "in_place, 2 layers", "not measured"):
        assert words in said
    assert "a bundle also has" in said and "hashes of its files" in said


def test_quantised_weights_are_told(folder):
    packed = node("MatMulNBits", ["x", "w"], ["y"], "com.microsoft", bits=4)
    (folder / "model.onnx").write_bytes(decoder(nodes=[packed]))
    assert open_bundle(folder).manifest["storage"] == "blocks of 4-bit integers"
