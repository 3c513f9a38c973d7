"""Adapters of a bundle: each row of a batch has its own, or none."""

import asyncio
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import decodekit
from decodekit.errors import BundleError, BundleHashError, ParameterError
from decodekit.kv_cache import Slab
from decodekit.slab_slots import SlabSlots
from decodekit.strategies.greedy import Greedy

FIXTURES = Path(__file__).parent / "fixtures"
SAID = json.loads((FIXTURES / "adapters.json").read_text())
PROMPT = SAID["prompt"]
NAMES = (None, "one", "three")


@pytest.fixture(scope="module")
def decoder():
    with decodekit.load(FIXTURES / "adapters") as loaded:
        yield loaded


@pytest.fixture(scope="module")
def alone():
    """The answers of each row by itself, to 40 tokens."""
    with decodekit.load(FIXTURES / "adapters", deterministic=True) as one_by_one:
        options = {"max_new_tokens": 40, "ignore_eos": True}
        return {
            (name, length): one_by_one.generate([3 + i for i in range(length)], adapter=name, **options).ids
            for name in NAMES
            for length in (1, 9, 150)
        }


@pytest.mark.parametrize("name", ["one", "three"])
def test_the_tokens_are_those_of_pytorch(decoder, name):
    got = decoder.generate(PROMPT, adapter=name, max_new_tokens=16, ignore_eos=True)
    assert list(got.ids) == SAID["answers"][name]


def test_without_one_the_model_is_as_it_is(decoder):
    """The weights are those of the bundle beside it that has no adapters."""
    options = {"max_new_tokens": 16, "ignore_eos": True}
    with decodekit.load(FIXTURES / "in_place") as plain:
        assert decoder.generate(PROMPT, **options).ids == plain.generate(PROMPT, **options).ids


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([1, 9, 150]), st.integers(1, 40)), max_size=8)
)
def test_any_company_any_adapters_the_same_tokens(decoder, alone, requests):
    streams = [
        decoder.stream([3 + i for i in range(length)], adapter=name, max_new_tokens=tokens, ignore_eos=True)
        for name, length, tokens in requests
    ]
    for stream, (name, length, tokens) in zip(streams, requests, strict=True):
        list(stream)
        assert stream.completion.ids == alone[name, length][:tokens]


def test_threads_and_tasks_mix_adapters(decoder, alone):
    got = {}

    def ask(name):
        got[name] = decoder.generate([3], adapter=name, max_new_tokens=20, ignore_eos=True).ids

    async def ask_all():
        asked = [decoder.agenerate([3], adapter=n, max_new_tokens=20, ignore_eos=True) for n in NAMES]
        return [completion.ids for completion in await asyncio.gather(*asked)]

    threads = [threading.Thread(target=ask, args=[name]) for name in NAMES]
    for thread in threads:
        thread.start()
    answers = asyncio.run(ask_all())
    for thread in threads:
        thread.join()
    assert answers == [got[name] for name in NAMES] == [alone[name, 1][:20] for name in NAMES]


def test_speculation_samples_and_second_prompts_keep_the_adapter(decoder):
    options = {"adapter": "three", "max_new_tokens": 24, "ignore_eos": True, "seed": 1}
    plain = decoder.generate(PROMPT * 8, "temperature=0.7", **options)
    assert decoder.generate(PROMPT * 8, "temperature=0.7", speculate="lookup", **options).ids == plain.ids
    several = decoder.generate(PROMPT * 8, "temperature=0.7", n=3, **options)
    assert several[0].ids == plain.ids
    seen = decoder.generate(PROMPT, prompt_logprobs=0, **options).prompt_logprobs
    assert [t.logprob for t in seen] == [t.logprob for t in decoder.score(PROMPT, adapter="three").tokens]
    assert [t.logprob for t in seen] != [t.logprob for t in decoder.score(PROMPT).tokens]


def test_a_companion_is_asked_under_the_same_adapter(decoder):
    """Guidance by the prompt itself changes nothing, since both are under one adapter."""
    pytest.importorskip("decodekit_guidance", reason="the plugin decodekit-guidance is not installed")
    from decodekit_guidance import Guidance

    options = {"adapter": "one", "max_new_tokens": 12, "ignore_eos": True}
    guided = decoder.generate(PROMPT, [Guidance(3.0, PROMPT), Greedy()], **options)
    assert guided.ids == decoder.generate(PROMPT, **options).ids


def test_the_active_adapters_are_those_in_use(decoder):
    """They grow with the rows and shrink when the next one comes, so that memory follows use."""
    seen = []

    class Graph:
        spec, context_length, bytes_per_token = decoder.bundle.cache, 64, 1

        def slab(self, rows, capacity):
            return Slab(self.spec, rows, capacity)

        def run(self, slab, first, tokens, lengths, last, adapters, active):
            seen.append((tuple(adapters), active))
            return np.zeros((len(lengths), last, 4), np.float32)

    slots = SlabSlots(Graph(), max_rows=4, max_bytes=1 << 20, together=True)
    assert isinstance(slots.slab, Slab)
    slots.reserve(3, 8)
    for slot, name in enumerate(("b", None, "a")):
        slots.open(slot, name)
        slots.read(slot, [1], last=1)
    slots.step([1, 1, 1])
    assert seen[-1] == (("b", None, "a"), ("a", "b"))
    slots.copy(2, 0, 2)  # the last moves down
    slots.open(1, "c")
    slots.step([1, 1])
    assert seen[-1] == (("a", "c"), ("a", "c"))

    alone = SlabSlots(Graph(), max_rows=4, max_bytes=1 << 20, together=False)
    alone.reserve(2, 8)
    for slot, name in enumerate(("b", "a")):
        alone.open(slot, name)
    alone.step([1, 1])
    assert seen[-2:] == [(("b",), ("b",)), (("a",), ("a",))]


def test_a_name_that_is_not_there_is_an_error(decoder, run):
    for ask in (decoder.generate, decoder.stream, decoder.session, decoder.beam, decoder.score):
        with pytest.raises(ParameterError, match="tiny-adapters has none named 'two'; there are one, three"):
            ask(PROMPT, adapter="two")
    bundle = str(FIXTURES / "adapters")
    status, _, err = run("generate", bundle, "a", "--adapter", "two")
    assert (status, "there are one, three" in err) == (2, True)
    status, out, _ = run("generate", bundle, "a", "--adapter", "one", "--max-new-tokens", "2")
    assert (status, bool(out)) == (0, True)


FILE = "adapter-one.onnx_adapter"


def damaged(tmp_path, change):
    """The bundle with another adapter file, sealed again."""
    folder = tmp_path / "bundle"
    shutil.copytree(FIXTURES / "adapters", folder)
    manifest = json.loads((folder / "decodekit.json").read_text())
    change(folder, manifest)
    data = (folder / FILE).read_bytes()
    from hashlib import sha256

    manifest["files"][FILE] = {"sha256": sha256(data).hexdigest(), "size": len(data)}
    (folder / "decodekit.json").write_text(json.dumps(manifest))
    return folder


def other_rank(folder, manifest):
    manifest["adapters"]["one"]["rank"] = 2


def no_rank(folder, manifest):
    manifest["adapters"]["one"]["rank"] = 0


def not_listed(folder, manifest):
    manifest["adapters"]["one"]["file"] = "../../secret"


def others_file(folder, manifest):
    (folder / FILE).write_bytes((folder / "adapter-three.onnx_adapter").read_bytes())


def no_adapter(folder, manifest):
    (folder / FILE).write_bytes(b"\xff" * 1000)


def cut(folder, manifest):
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:700])


def not_a_dict(folder, manifest):
    manifest["adapters"] = ["one"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_rank, r"must be float32 \(2, 48\), got float32 \(1, 48\); export the bundle again"),
        (no_rank, r"adapters\.one\.rank must be in \[1, 4096\], got 0"),
        (not_listed, r"'\.\./\.\./secret' is used but not listed under files"),
        (others_file, r"must be float32 \(1, 48\), got float32 \(3, 48\)"),
        (no_adapter, "onnxruntime cannot read the adapter"),
        (cut, "onnxruntime cannot read the adapter"),
        (not_a_dict, "field 'adapters' is not a dict"),
    ],
)
def test_a_damaged_adapter_is_refused(tmp_path, change, message):
    with pytest.raises(BundleError, match=message):
        decodekit.load(damaged(tmp_path, change))


def test_a_changed_file_is_refused_by_its_hash(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(FIXTURES / "adapters", folder)
    data = bytearray((folder / FILE).read_bytes())
    data[-20] ^= 1
    (folder / FILE).write_bytes(data)
    with pytest.raises(BundleHashError, match=r"adapter-one\.onnx_adapter: sha256 differs"):
        decodekit.load(folder)
