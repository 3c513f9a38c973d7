from __future__ import annotations

import onnx
import onnx_ir
import onnxruntime
import pytest

from decodekit.graph_check import check_graph_file
from decodekit.onnx_file import read_onnx
from decodekit_export.graph_file import DATA, FILE, write
from decodekit_export.rows import InPlaceRows, open_session

IN_PLACE = ["input_ids", "position_ids", "lengths", "total_length", "logit_positions"]
CONCATENATING = ["input_ids", "attention_mask", "position_ids", "logit_positions"]


def names(prefix: str) -> list[str]:
    return [f"{prefix}.{layer}.{side}" for layer in range(2) for side in ("key", "value")]


def test_an_in_place_graph_keeps_its_contract(drawn):
    session = open_session(drawn("Llama").path)
    inputs = {i.name: (i.type, i.shape) for i in session.get_inputs()}
    assert list(inputs) == [*IN_PLACE, *names("past_key_values")]
    assert inputs["input_ids"] == ("tensor(int64)", ["B", "T"])
    assert inputs["position_ids"] == ("tensor(int64)", ["B", "T"])
    assert inputs["lengths"] == ("tensor(int32)", ["B"])
    assert inputs["total_length"] == ("tensor(int32)", [])
    assert inputs["logit_positions"] == ("tensor(int64)", ["K"])
    assert inputs["past_key_values.1.value"] == ("tensor(float)", ["B", 2, "L", 8])
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    assert list(outputs) == ["logits", *names("present")]
    assert outputs["logits"] == ("tensor(float)", ["B", "K", 300])
    assert outputs["present.0.key"] == ("tensor(float)", ["B", 2, "L", 8])


def test_a_concatenating_graph_keeps_its_contract(drawn):
    session = open_session(drawn("Llama", "concatenating").path)
    inputs = {i.name: (i.type, i.shape) for i in session.get_inputs()}
    assert list(inputs) == [*CONCATENATING, *names("past_key_values")]
    assert inputs["attention_mask"] == ("tensor(int64)", ["B", "P + T"])
    assert inputs["past_key_values.0.key"] == ("tensor(float)", ["B", 2, "P", 8])
    assert session.get_outputs()[1].shape == ["B", 2, "P + T", 8]


def test_going_back_is_a_shorter_length(drawn):
    graph = drawn("Llama")
    ids = list(range(20, 40))
    straight, detour = (InPlaceRows(open_session(graph.path), graph.shape, 1, 40) for _ in range(2))
    want = straight.feed([ids])[0, -1]
    detour.feed([[*ids[:12], 99, 98, 97]])
    detour.lengths[:] = 12
    assert detour.feed([ids[12:]])[0, -1] == pytest.approx(want, abs=1e-5)


def test_the_file_holds_nothing_of_the_machine_that_wrote_it(drawn):
    model = onnx.load(drawn("Llama").path)
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert b".py" not in drawn("Llama").path.read_bytes()


def test_weights_are_called_as_in_the_checkpoint(drawn):
    weights = {i.name for i in onnx.load(drawn("Llama").path).graph.initializer}
    assert {"model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight.T"} <= weights


def test_a_tied_embedding_is_stored_once(drawn):
    weights = onnx.load(drawn("Qwen2").path).graph.initializer
    assert [i.name for i in weights if 300 in i.dims] == ["lm_head.weight"]


def test_only_operators_of_two_domains_are_used(drawn):
    model = onnx.load(drawn("Gemma2").path)
    assert {node.domain for node in model.graph.node} == {"", "com.microsoft"}
    assert not model.functions


def test_a_tiny_epsilon_is_not_taken_for_zero(drawn):
    """Token 0 is embedded as zeros, so its norm is sqrt(epsilon)."""
    graph = drawn("Llama")
    assert not graph.model.get_input_embeddings().weight[0].any()
    rows = InPlaceRows(open_session(graph.path), graph.shape, 1, 8)
    assert abs(rows.feed([[0]])).max() < 100


def test_onnxruntime_recognises_the_norms_and_activations(drawn, tmp_path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(drawn("Llama").path, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert sum("SimplifiedLayerNormalization" in kind for kind in kinds) == 5
    assert kinds.count("QuickGelu") == 2
    assert "Pow" not in kinds


def test_large_weights_go_to_exactly_one_data_file(drawn, tmp_path):
    graph = drawn("Llama")
    write(onnx_ir.load(graph.path), tmp_path, one_file=1000)
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE, DATA]
    inside, beside = (
        InPlaceRows(open_session(path), graph.shape, 1, 8).feed([[5, 6, 7]])
        for path in (graph.path, tmp_path / FILE)
    )
    assert (inside == beside).all()


def test_a_tied_embedding_in_a_file_of_weights_has_two_names_and_one_place(drawn, tmp_path):
    """onnxruntime packs the one for the logits and lets it go; the other stays mapped for lookups."""
    graph = drawn("Qwen2")
    write(onnx_ir.load(graph.path), tmp_path, one_file=1000)
    file = read_onnx(tmp_path / FILE)
    places = {t.name: t.external for t in file.graph.initialisers if 300 in t.dims}
    assert places.keys() == {"lm_head.weight", "lm_head.weight.rows"}
    assert len(set(places.values())) == 1
    (lookup,) = [node for node in file.graph.nodes if "lm_head.weight.rows" in node.inputs]
    (product,) = [node for node in file.graph.nodes if "lm_head.weight" in node.inputs]
    assert (lookup.operator, product.operator) == ("Gather", "FusedMatMul")

    inside, beside = (
        InPlaceRows(open_session(path), graph.shape, 1, 8).feed([[5, 6, 7]])
        for path in (graph.path, tmp_path / FILE)
    )
    assert (inside == beside).all()


def test_a_graph_written_again_leaves_its_weights_where_they_are(drawn, tmp_path):
    model = onnx_ir.load(drawn("Qwen2").path)
    write(model, tmp_path, one_file=1000)
    weights = (tmp_path / DATA).stat()
    model.graph.doc_string = "changed"
    write(model, tmp_path, one_file=1000)
    assert (tmp_path / DATA).stat() == weights
    again = onnx.load(tmp_path / FILE, load_external_data=False)
    assert again.graph.doc_string == "changed"
    assert sum(300 in weight.dims for weight in again.graph.initializer) == 2


def test_weights_beyond_four_gigabytes_of_one_file_are_found(drawn, tmp_path):
    """The weights of a tiny graph at the end of a file with a hole of 5 GiB, which takes no room."""
    graph, hole = drawn("Llama"), 5 << 30
    write(onnx_ir.load(graph.path), tmp_path, one_file=1000)
    model = onnx.load(tmp_path / FILE, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "offset":
                entry.value = str(int(entry.value) + hole)
    onnx.save(model, tmp_path / FILE)
    weights = (tmp_path / DATA).read_bytes()
    with (tmp_path / DATA).open("wb") as file:
        file.seek(hole)
        file.write(weights)

    check_graph_file(tmp_path / FILE)
    near, far = (
        InPlaceRows(open_session(path), graph.shape, 1, 8).feed([[5, 6, 7]])
        for path in (graph.path, tmp_path / FILE)
    )
    assert (near == far).all()
