"""Models that turn bad while they run, and folders that change under them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import decodekit
from decodekit.bundle import open_bundle, write_manifest
from decodekit.errors import BundleHashError, DeviceError, NumericalError
from decodekit.onnx_session import versions

FIXTURES = Path(__file__).parent.parent / "fixtures"
KEPT = ("name", "graph", "vocabulary", "context_length", "stop_ids", "tokenizer", "chat_template")


@pytest.fixture
def bundle(tmp_path):
    return shutil.copytree(FIXTURES / "in_place", tmp_path / "bundle")


def load(folder):
    return decodekit.load(folder, plugins=decodekit.load_plugins(only=()))


def answer(decoder):
    return decoder.generate("abc", "temperature=0", max_new_tokens=8).ids


# M10


def test_m10_ids_that_the_tokenizer_does_not_have_are_never_chosen(make_decoder, tokenizer):
    table = np.zeros((tokenizer.size + 7,) * 2, np.float32)
    table[:, tokenizer.size :] = 100  # rows of padding in the embedding, which no training touched
    with make_decoder(table) as decoder:
        for seed in range(20):
            ids = decoder.generate([7], "temperature=2", seed=seed, max_new_tokens=8).ids
            assert max(ids) < tokenizer.size


# M11, M12, M21


def test_m21_weights_that_are_no_numbers_end_the_request_with_its_step(attack, bundle):
    fields = {key: open_bundle(bundle).manifest[key] for key in KEPT}
    content = (bundle / "model.onnx").read_bytes()
    at = content.index(b"lm_head.weight", 100_000) + 1024  # among the numbers of the largest weight
    (bundle / "model.onnx").write_bytes(content[:at] + b"\xff" * 1024 + content[at + 1024 :])
    write_manifest(bundle, fields)
    attack("load", bundle).refused("the model gave NaN logits at token 0", "NumericalError", "E_NUMERICAL")


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN"), (np.inf, r"\+inf"), (-np.inf, "-inf everywhere")],
)
def test_m11_a_request_of_bad_logits_ends_and_the_next_one_does_not(make_decoder, tokenizer, value, message):
    table = np.zeros((tokenizer.size, tokenizer.size), np.float32)
    table[:, 5] = 1
    table[5] = value
    with make_decoder(table) as decoder:
        bad, good = [tokenizer.encode("a")], tokenizer.encode("b")
        with pytest.raises(NumericalError, match=f"the model gave {message} logits at token 1"):
            decoder.generate(bad[0], "temperature=0", max_new_tokens=4)
        assert decoder.generate(good, "temperature=0", max_new_tokens=1).ids == (5,)


@pytest.mark.parametrize("value", [0.0, 1e-45, 65504.0, -65504.0])
def test_m12_equal_logits_are_a_tie_that_the_lowest_id_wins(make_decoder, tokenizer, value):
    table = np.full((tokenizer.size, tokenizer.size), value, np.float32)
    with make_decoder(table) as decoder:
        assert decoder.generate([7], "temperature=0", max_new_tokens=2).ids[:1] == (0,)
        drawn = {decoder.generate([7], "temperature=1", seed=s, max_new_tokens=1).ids for s in range(40)}
    assert len(drawn) > 20  # and drawn, they are equally likely


# M24


@pytest.mark.parametrize("change", ["replace", "rewrite", "truncate", "remove"])
def test_m24_a_bundle_that_changes_while_it_runs_is_not_noticed_and_not_opened_again(bundle, change):
    decoder, graph = load(bundle), bundle / "model.onnx"
    before = answer(decoder)
    if change == "remove":
        graph.unlink()
    elif change == "truncate":
        os.truncate(graph, 100)
    elif change == "rewrite":
        graph.write_bytes(bytes(graph.stat().st_size))
    else:
        (bundle / "new").write_bytes(b"other")
        (bundle / "new").replace(graph)
    assert answer(decoder) == before
    decoder.close()
    with pytest.raises((BundleHashError, decodekit.DecodekitError), match="model.onnx: "):
        load(bundle)


def test_m24_weights_beside_the_graph_may_be_replaced_but_not_rewritten(tmp_path):
    folder = shutil.copytree(FIXTURES / "genai", tmp_path / "genai")
    decoder, data = load(folder), folder / "model.onnx.data"
    before = answer(decoder)
    (folder / "new").write_bytes(bytes(data.stat().st_size))
    (folder / "new").replace(data)  # what was opened stays; docs/bundle.md says so
    assert answer(decoder) == before


# M25


@pytest.mark.skipif("CUDAExecutionProvider" in versions()["providers"], reason="there is a GPU here")
def test_m25_a_device_that_is_not_there_is_an_error_and_never_the_cpu(bundle):
    with pytest.raises(DeviceError, match=r"no CUDA provider; .*pip install 'decodekit\[gpu\]'") as error:
        decodekit.load(bundle, device="cuda")
    assert (error.value.code, error.value.exit_code) == ("E_DEVICE", 3)
    with pytest.raises(DeviceError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got 'tpu'"):
        decodekit.load(bundle, device="tpu")
