"""Devices: what is asked for is what runs, or an error that tells the way out."""

from pathlib import Path

import numpy as np
import pytest
from devices import check, peers, proofs, speed

import decodekit
from decodekit import gpu, loading, onnx_session
from decodekit.bundle import open_bundle
from decodekit.devices import CUDA, chosen
from decodekit.doctor import cuda_problems
from decodekit.errors import BundleError, DeviceError
from decodekit.gpu import Card, read_cards
from decodekit.onnx_session import check_provider, load_error

IN_PLACE = Path(__file__).parent / "fixtures" / "in_place"
CPU = "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("asked", "offered", "device"),
    [
        ("auto", [CPU], "cpu"),
        ("auto", [CUDA, CPU], "cuda:0"),
        ("cpu", [CUDA, CPU], "cpu"),
        ("cuda", [CUDA, CPU], "cuda:0"),
        ("cuda:3", [CUDA, CPU], "cuda:3"),
    ],
)
def test_the_device_that_a_name_means(asked, offered, device):
    assert chosen(asked, offered) == device


@pytest.mark.parametrize("asked", ["gpu", "cuda:", "cuda:-1", "cuda:1:2", "CUDA", "", None, 0])
def test_a_name_that_is_none_is_refused(asked):
    with pytest.raises(DeviceError, match="device must be 'auto', 'cpu', 'cuda' or 'cuda:1'"):
        chosen(asked, [CUDA, CPU])


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_with_the_wheel_for_the_cpu_tells_the_way_out(device, run):
    with pytest.raises(DeviceError, match=r"no CUDA provider; .*pip install 'decodekit\[gpu\]'"):
        decodekit.load(IN_PLACE, device=device)
    status, out, err = run("generate", str(IN_PLACE), "a", "--device", device)
    assert status == 3 and out == "" and "decodekit doctor" in " ".join(err.split())


def test_another_provider_than_the_one_asked_for_is_an_error():
    check_provider(CUDA, [CUDA, CPU])
    with pytest.raises(DeviceError, match="asked for CUDAExecutionProvider, got CPUExecutionProvider"):
        check_provider(CUDA, [CPU])


def test_weights_that_do_not_fit_are_told_with_sizes(monkeypatch):
    monkeypatch.setattr(onnx_session, "cards", lambda: ([Card("NVIDIA X", "1.2", 1000, 30)], ""))
    said = "bfc_arena.cc: Failed to allocate memory for requested buffer of size 123"
    error = load_error(IN_PLACE / "model.onnx", CUDA, said)
    assert isinstance(error, DeviceError)
    assert "0 MiB of weights do not fit" in str(error) and "30 of 1,000 MiB free" in str(error)


@pytest.mark.parametrize(
    ("provider", "said", "kind"),
    [
        (CUDA, "CUDA failure 100: no CUDA-capable device is detected", DeviceError),
        (CUDA, "Load model failed: protobuf parsing failed", BundleError),
        (CPU, "Failed to allocate memory for requested buffer", BundleError),
    ],
)
def test_what_fails_at_loading_is_the_device_or_the_bundle(provider, said, kind):
    error = load_error(IN_PLACE / "model.onnx", provider, said)
    assert type(error) is kind and said in str(error)


@pytest.mark.parametrize(
    ("offered", "card", "said", "told"),
    [
        ([CPU], False, "", ""),
        ([CUDA, CPU], True, "", ""),
        ([CUDA, CPU], False, "", "install the driver"),
        ([CPU], True, "", "pip install 'decodekit[gpu]'"),
        ([CUDA, CPU], True, "Failed to load libcudnn.so.9", "pip install 'onnxruntime-gpu[cuda,cudnn]'"),
    ],
)
def test_the_doctor_names_what_is_between_a_card_and_cuda(offered, card, said, told):
    problems = cuda_problems(offered, card, "no driver", lambda: said)
    assert len(problems) == bool(told) and told in "".join(problems) and said in "".join(problems)


def test_what_the_driver_says_of_cards():
    found, why = read_cards("NVIDIA A, 550.1, 81559, 80000\nNVIDIA B, 550.1, 100, 50\n")
    assert not why and [str(card) for card in found][1] == "NVIDIA B, 50 of 100 MiB free, driver 550.1"
    assert read_cards("")[1] == "the NVIDIA driver knows of no card"
    assert "not expected" in read_cards("No devices were found")[1]


def test_the_cache_of_a_card_is_of_its_own_memory(monkeypatch):
    there = [Card("A", "1", 100, 10), Card("B", "1", 100, 60)]
    monkeypatch.setattr(loading, "cards", lambda: (there, ""))
    assert loading.free_bytes("cuda:1") == 60 * 2**20
    with pytest.raises(DeviceError, match="cuda:2: the driver knows of 2 cards; give cache_bytes"):
        loading.free_bytes("cuda:2")
    monkeypatch.setattr(loading, "cards", lambda: ([], "no driver"))
    with pytest.raises(DeviceError, match="cuda:0: no driver; give cache_bytes"):
        loading.free_bytes("cuda:0")


def test_a_machine_without_a_driver(monkeypatch):
    monkeypatch.setattr(gpu.shutil, "which", lambda name: None)
    assert gpu.cards() == ([], "no NVIDIA driver: nvidia-smi is not there")


@pytest.mark.parametrize(
    ("script", "why"),
    [("echo oops; exit 9", "the NVIDIA driver fails: oops"), ("sleep 9", "does not answer")],
)
def test_a_driver_that_fails(script, why, monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr(gpu.shutil, "which", lambda name: str(tool))
    monkeypatch.setattr(gpu, "SECONDS", 0.5)
    found, said = gpu.cards()
    assert found == [] and why in said


def test_inspect_lists_what_runs_where(run):
    status, out, _ = run("inspect", str(IN_PLACE), "--placement")
    assert status == 0 and "runs on" in out and "GroupQueryAttention" in out.partition("runs on")[2]


def test_the_check_of_a_device_refuses_one_that_is_not_there(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("sys.argv", ["check", "--device", "cuda", "--out", str(tmp_path / "out")])
    assert check.main() == 3
    assert "no CUDA provider" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_check_of_a_device_holds_on_the_cpu():
    bundle = open_bundle(IN_PLACE)
    parity = proofs.parity(bundle, "cpu")
    assert parity["holds"] and parity["levels"].keys() == {"off", "basic", "all"}
    assert parity["levels"]["off"]["logits"] > 0 and "cache" in parity["levels"]["off"]
    assert all(proofs.tokens(bundle, "cpu")["same_as_alone"].values())
    assert proofs.soak(bundle, "cpu", 0.5)["holds"]
    assert speed.stream(bundle, "cpu", 5)["share"] > 0


def test_a_bare_loop_says_the_same():
    bundle = open_bundle(IN_PLACE)
    with decodekit.load(IN_PLACE, device="cpu") as decoder:
        expected = decoder.generate([1, 2, 3], "greedy", max_new_tokens=12, ignore_eos=True).ids
    bare = speed.Bare(bundle, "cpu", 15)
    logits, ids = bare._run(np.asarray([[1, 2, 3]]), 0), []
    for length in range(3, 15):
        ids.append(int(logits[0, 0].argmax()))
        logits = bare._run(np.asarray([ids[-1:]]), length)
    assert tuple(ids) == tuple(expected)


def test_what_a_batch_takes_and_what_memory_allows():
    bundle = open_bundle(IN_PLACE)
    found = speed.batch(bundle, "cpu", 3, 4)
    assert found["greedy_ms"] > 0 and found["top_p_ms"] > 0 and found["chains run in"] == "NumPy"
    floor = speed.floor(bundle, "cpu", 100.0, 10, 1 << 16)
    assert floor["over_floor"] == pytest.approx(10 / floor["floor_ms"], rel=1e-6)  # 100 tokens/s: 10 ms each


def test_a_peer_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(peers.NEEDS, "onnxruntime-genai", ("no_such_module",))
    found = peers.measured("onnxruntime-genai", Path("nowhere"), "cpu", "float32", 3)
    assert found == {"absent": "no_such_module is not installed"}


class Lost:
    """A session of onnxruntime whose device goes away at one call."""

    def __init__(self, session, at):
        self._session, self._left = session, at

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run_with_iobinding(self, binding):
        self._left -= 1
        if self._left == 0:
            raise RuntimeError("CUDA failure 719: unspecified launch failure ; GPU=0")
        self._session.run_with_iobinding(binding)


@pytest.mark.parametrize("at", [1, 4])
def test_a_device_that_is_lost_fails_the_requests_and_the_process_lives(at):
    with decodekit.load(IN_PLACE, device="cpu") as decoder:
        expected = decoder.generate("the cat", "top_k=5", seed=1, max_new_tokens=8).text
        session = decoder.model.session
        session.device, session._session = "cuda:0", Lost(session._session, at)
        streams = [decoder.stream("the cat", "top_k=5", seed=1, max_new_tokens=8) for _ in range(3)]
        failed = 0
        for stream in streams:
            try:
                list(stream)
            except DeviceError as exc:
                failed += "cuda:0 failed" in str(exc) and "load the model again" in str(exc)
        assert failed >= 1 and decoder.engine.running == 0
        assert decoder.generate("the cat", "top_k=5", seed=1, max_new_tokens=8).text == expected


def test_what_fails_on_the_cpu_is_no_device():
    assert onnx_session.run_error("cpu", RuntimeError("CUDA failure")) is None
    assert onnx_session.run_error("cuda:0", RuntimeError("bad shape")) is None
    error = onnx_session.run_error("cuda:0", RuntimeError("Failed to allocate memory for 99 bytes"))
    assert isinstance(error, DeviceError) and "max_rows" in str(error)


def test_a_part_that_fails_is_told_and_not_the_end():
    def fails():
        raise DeviceError("lost")

    report = {}
    assert not check._part(report, "parity", fails)
    assert report == {"parity": {"error": "DeviceError: lost", "holds": False}}
