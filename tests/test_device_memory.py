"""
Cache and logits in a device's memory, tried on the CPU as the device.

What onnxruntime allocates, what is bound by pointer and what a graph moves is the same on every
device; that CUDA does it too is for `make gpu-check`.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from decodekit import device_memory
from decodekit.bundle import CacheSpec, open_bundle
from decodekit.decoder import Decoder
from decodekit.device_memory import DeviceMemory
from decodekit.device_slab import DeviceSlab
from decodekit.errors import DeviceError
from decodekit.graph_sampling.reducer import Reducer
from decodekit.kv_cache import Slab
from decodekit.onnx_model import InPlaceModel, load_model
from decodekit.onnx_session import Session
from decodekit.plugins import load_plugins
from decodekit.tokenizer import Tokenizer

IN_PLACE = Path(__file__).parent / "fixtures" / "in_place"
SPEC = CacheSpec("in_place", layers=2, kv_heads=3, head_dim=4)


@pytest.fixture(scope="module")
def memory():
    return DeviceMemory("cpu")


@pytest.mark.parametrize("dtype", ["float16", "float32", "int64"])
def test_bytes_go_there_and_back(memory, dtype):
    given = (np.random.default_rng(0).standard_normal((3, 5, 2)) * 100).astype(dtype)
    there = memory.zeros(given.shape, dtype)
    assert not memory.fetch(there).any()
    memory.move(given, there)
    assert (memory.fetch(there) == given).all()
    assert (memory.fetch(there.rows(1, 3)) == given[1:3]).all()
    memory.move(there.rows(0, 1), there.rows(2, 3))
    assert (memory.fetch(there)[2] == given[0]).all()


def test_bfloat16_is_bound_by_its_bits():
    """The mover's graph, but for the type of its input and output."""
    session = Session(device_memory._IDENTITY.replace(b"\x08\x02\x12", b"\x08\x10\x12"), device="cpu")
    assert session.inputs == {"x": "tensor(bfloat16)"} and session.outputs == {"y": "tensor(bfloat16)"}
    given, found = np.arange(7, dtype=np.uint16) * 9000, np.zeros(7, np.uint16)
    binding = session.binding()
    binding.input("x", given)
    binding.output("y", found)
    binding.run()
    assert found.tolist() == given.tolist()


def test_a_bundle_in_bfloat16_is_for_cuda():
    spec = replace(SPEC, dtype="bfloat16")
    assert spec.bytes_per_token == SPEC.bytes_per_token // 2
    with pytest.raises(DeviceError, match="x: it computes in bfloat16, .* use device='cuda'"):
        load_model(SimpleNamespace(cache=spec, path="x"), device="cpu")


def test_what_is_no_one_piece_is_never_moved(memory):
    with pytest.raises(AssertionError, match="not contiguous"):
        memory.move(np.zeros((4, 4), np.float32)[:, :2], memory.zeros((8,), np.float32))


def test_no_room_is_a_memory_error(memory):
    with pytest.raises(MemoryError, match="no room for"):
        memory.zeros((1 << 40, 1 << 20), np.float32)


def test_a_slab_there_is_a_slab(memory):
    """Random operations on both, the same content after each."""
    rng = np.random.default_rng(3)
    here, there = Slab(SPEC, 3, 8), DeviceSlab(SPEC, 3, 8, memory)
    for _ in range(60):
        start, stop = sorted(rng.integers(0, here.capacity + 1, 2))
        row, other = rng.choice(here.rows, 2, replace=False)
        match rng.integers(4):
            case 0:
                saved = rng.standard_normal((4, 3, stop - start, 4)).astype(np.float32)
                for slab in (here, there):
                    slab.restore(row, start, saved)
            case 1:
                for slab in (here, there):
                    slab.copy(row, other, start, stop)
            case 2:
                assert (here.save(row, start, stop) == there.save(row, start, stop)).all()
            case _:
                lengths = [int(n) for n in rng.integers(0, min(here.capacity, 6) + 1, here.rows)]
                size = int(rng.integers(2, 5)), int(rng.integers(6, 12))
                for slab in (here, there):
                    slab.resize(*size, lengths[: min(size[0], slab.rows)])
        assert all((a == memory.fetch(b)).all() for a, b in zip(here.arrays, there.arrays, strict=True))


def decoder(memory, sampling):
    bundle = open_bundle(IN_PLACE)
    model = InPlaceModel(bundle, Session(bundle.graph, device="cpu"), memory)
    tokenizer = Tokenizer(bundle.tokenizer, bundle.stop_ids)
    reducer = Reducer(bundle.vocabulary) if sampling == "graph" else None
    return Decoder(model, tokenizer, bundle, load_plugins(only=()), reducer=reducer, max_rows=4)


@pytest.mark.parametrize("sampling", ["host", "graph"])
def test_decoding_there_gives_the_same(memory, sampling):
    """Prompts longer than a chunk, rows that come and go, a growing slab, guesses, n answers of one."""
    prompts = ["the cat " * 40, "a", "b c d e f g", "the dog ate", "x" * 150, "the cat"]
    chain = "top_k=30, top_p=0.95, repetition_penalty=1.1"
    found = []
    for place in (None, memory):
        with decoder(place, sampling) as one:
            answers = one.generate(prompts, chain, n=2, seed=3, max_new_tokens=60, ignore_eos=True)
            answers += one.generate(prompts[:3], "top_k=3", speculate="lookup", seed=1, max_new_tokens=40)
            answers.append(one.generate("a", "top_k=9", logprobs=2, seed=1, max_new_tokens=9))
            beams = one.beam("the", beams=3, n=2, max_new_tokens=9)
            found.append([[t.id for t in answer.tokens] for answer in answers] + [list(b.ids) for b in beams])
            assert (one.engine.reducer is None) or one.engine.reducer.rows > 0
    assert found[0] == found[1]
