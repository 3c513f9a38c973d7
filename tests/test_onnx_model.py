import json
import shutil
from pathlib import Path

import numpy as np
import onnx_bytes
import pytest

import decodekit
from decodekit import onnx_model
from decodekit.bundle import MANIFEST, open_bundle, write_manifest
from decodekit.errors import BundleError, ContextError, ContractError, DeviceError

FIXTURES = Path(__file__).parent / "fixtures"
PROMPT = "Once upon a time"
KINDS = ["in_place", "concatenating"]
SAMPLED = "temperature=0.8, top_p=0.95"


@pytest.fixture(scope="module", params=KINDS)
def decoder(request):
    return decodekit.load(FIXTURES / request.param, plugins=decodekit.load_plugins(only=()))


@pytest.fixture
def model(decoder):
    return decoder.model


def read(model, ids, cache=None, last=1):
    return model(np.asarray(ids), cache or model.new_cache(), last=last)


IDS = np.random.default_rng(0).integers(1, 256, 40)


def test_both_cache_kinds_give_the_same_tokens():
    first, second = (decodekit.load(FIXTURES / kind) for kind in KINDS)
    for seed in range(5):
        options = {"seed": seed, "max_new_tokens": 60}
        assert (
            first.generate(PROMPT, SAMPLED, **options).ids == second.generate(PROMPT, SAMPLED, **options).ids
        )
    assert first.generate(PROMPT, max_new_tokens=100).ids == second.generate(PROMPT, max_new_tokens=100).ids


def test_reading_in_pieces_is_reading_at_once(model):
    whole, _ = read(model, IDS, last=40)
    logits, cache = read(model, IDS[:10], last=10)
    pieces = [logits]
    for piece in (IDS[10:11], IDS[11:25], IDS[25:26], IDS[26:]):
        logits, cache = read(model, piece, cache, last=len(piece))
        pieces.append(logits)
    assert cache.length == 40
    assert np.allclose(np.concatenate(pieces), whole, atol=1e-4)


def test_going_back_is_a_shorter_cache(model):
    _, cache = read(model, IDS[:20])
    expected, _ = read(model, [7], cache)
    _, longer = read(model, IDS[20:], read(model, IDS[:20])[1])
    found, _ = read(model, [7], longer.keep(20))
    assert np.allclose(found, expected, atol=1e-5)


def test_a_cache_grows_past_its_first_capacity(model):
    long = np.random.default_rng(1).integers(1, 256, onnx_model.FIRST_CAPACITY + 40)
    whole, _ = read(model, long, last=1)
    _, cache = read(model, long[:200])
    for i in range(200, len(long)):
        logits, cache = read(model, long[i : i + 1], cache)
    assert np.allclose(logits, whole, atol=1e-4)


def test_caches_do_not_see_each_other(model):
    alone, _ = read(model, [9], read(model, IDS[:20])[1])
    _, first = read(model, IDS[:20])
    read(model, IDS[20:])
    together, _ = read(model, [9], first)
    assert np.array_equal(alone, together)


def test_more_tokens_than_the_window_are_refused(model):
    with pytest.raises(ContextError, match="0 tokens and 601 more exceed the context window of 600"):
        read(model, np.ones(601, np.int64))


def test_logits_are_kept_when_the_next_step_runs(model):
    logits, cache = read(model, IDS)
    copy = logits.copy()
    read(model, [3], cache)
    assert np.array_equal(logits, copy)


def test_a_streamed_answer_is_the_answer_and_a_batch_is_its_prompts(decoder):
    prompts = [PROMPT, "b", "Ça va?"]
    together = decoder.generate(prompts, SAMPLED, seed=9, max_new_tokens=40)
    for prompt, completion in zip(prompts, together, strict=True):
        assert decoder.generate(prompt, SAMPLED, seed=9, max_new_tokens=40) == completion
        assert "".join(decoder.stream(prompt, SAMPLED, seed=9, max_new_tokens=40)) == completion.text


def test_streams_that_run_side_by_side_do_not_disturb_each_other(decoder):
    alone = [decoder.generate(p, SAMPLED, seed=2, max_new_tokens=30).text for p in (PROMPT, "b")]
    one, two = (decoder.stream(p, SAMPLED, seed=2, max_new_tokens=30) for p in (PROMPT, "b"))
    texts, running = ["", ""], [iter(one), iter(two)]
    while any(stream.completion is None for stream in (one, two)):
        for i, pieces in enumerate(running):
            texts[i] += next(pieces, "")
    assert texts == alone


def test_the_device_is_told(model):
    assert model.provider == "CPUExecutionProvider"


def test_an_older_cache_may_be_continued_but_not_after_it_was_written_over():
    model = decodekit.load(FIXTURES / "in_place").model
    _, twenty = read(model, IDS[:20])
    _, one = read(model, [5], twenty)
    expected, _ = read(model, [6], one)
    _, other = read(model, [8], twenty)  # writes where `one` ends
    with pytest.raises(ContractError, match="this cache of 21 tokens was written over"):
        read(model, [6], one)
    read(model, [6], other)
    again, _ = read(model, [6], read(model, [5], twenty)[1])
    assert np.allclose(again, expected, atol=1e-5)


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(DeviceError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got 'tpu'"):
        decodekit.load(FIXTURES / "in_place", device="tpu")


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(FIXTURES / "in_place", tmp_path / "bundle")


def reseal(folder, **changes):
    manifest = json.loads((folder / MANIFEST).read_text())
    write_manifest(folder, manifest | changes)


def test_a_graph_that_is_none_is_named(copy):
    (copy / "model.onnx").write_bytes(onnx_bytes.model(nodes=[onnx_bytes.node("NoSuchOperator", [], ["y"])]))
    reseal(copy)
    with pytest.raises(BundleError, match=r"model.onnx: onnxruntime cannot load it"):
        decodekit.load(copy)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (3, "inputs that are missing: past_key_values.2.key"),
        (1, "inputs that nobody feeds: past_key_values.1.key"),
    ],
)
def test_a_manifest_of_another_graph_is_refused(copy, layers, message):
    graph = json.loads((copy / MANIFEST).read_text())["graph"]
    reseal(copy, graph=graph | {"cache": graph["cache"] | {"layers": layers}})
    with pytest.raises(BundleError, match=message):
        decodekit.load(copy)


def test_a_tokenizer_with_more_tokens_than_the_graph_is_refused(copy):
    reseal(copy, vocabulary=200)
    with pytest.raises(
        BundleError, match=r"the graph knows 200 tokens, the tokenizer 257; id 200 .* out of reach"
    ):
        decodekit.load(copy)


def test_the_bundle_is_what_its_files_say():
    assert open_bundle(FIXTURES / "in_place").cache.kind == "in_place"
    assert open_bundle(FIXTURES / "concatenating").cache.kind == "concatenating"
