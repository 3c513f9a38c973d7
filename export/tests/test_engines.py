"""Other exporters, played by scripts: what may go wrong around them. See engines/ for the real ones."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import onnx
import pytest

from decodekit.errors import BundleError
from decodekit_export.commands import Export
from decodekit_export.engine_bundle import export_with_engine
from decodekit_export.engine_copy import older_spelling
from decodekit_export.errors import EngineError, ExportError, ParityError

VERSIONS = {"optimum": "2.1.0", "transformers": "4.57.6", "torch": "2.13.0"}


@pytest.fixture
def play(tmp_path: Path, monkeypatch):
    """Take a script for the Python that has optimum. It is told the words after `-I`."""

    def play(body: str, installed: bool = True, kernels: bool = False) -> None:
        script = tmp_path / "python"
        answer = json.dumps([installed, kernels, VERSIONS])
        script.write_text(
            f"#!{sys.executable}\n"
            "import os, shutil, sys\nfrom pathlib import Path\n"
            f"if sys.argv[2] == '-c':\n    print({answer!r})\n    raise SystemExit\n"
            "checkpoint, out = Path(sys.argv[5]), Path(sys.argv[-1])\n" + body
        )
        script.chmod(0o755)
        monkeypatch.setenv("DECODEKIT_OPTIMUM_PYTHON", str(script))

    return play


def copying(graph: Path, *more: str) -> str:
    """A script that writes that graph."""
    return "\n".join(["out.mkdir()", f"shutil.copy({str(graph)!r}, out / 'model.onnx')", *more])


def test_a_graph_of_an_engine_ends_in_a_bundle_like_any_other(checkpoint, drawn, play, tmp_path):
    seen = tmp_path / "seen"
    play(
        copying(
            drawn("Llama", "concatenating").path,
            "(out / 'config.json').write_text('{}')",
            f"shutil.copytree(checkpoint, {str(seen)!r})",
            f"Path({str(seen)!r}, 'environment').write_text(os.environ['HF_HUB_OFFLINE'] + str(sys.argv[1]))",
        )
    )
    bundle = export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out", prompts=2)
    assert bundle.manifest["provenance"] == {"engine": "optimum", "engine_packages": VERSIONS}
    assert bundle.manifest["parity"]["passed"] and bundle.cache.kind == "concatenating"
    assert bundle.manifest["canary"]["ids"]
    assert bundle.manifest["graph"]["positions"] == "input"
    assert {*bundle.manifest["files"]} == {"model.onnx", "tokenizer.json", "chat_template.jinja"}
    assert {path.name for path in seen.iterdir()} == {
        *("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "environment")
    }
    assert json.loads((seen / "config.json").read_text())["rope_theta"] == 10000.0
    assert (seen / "environment").read_text() == "1-I"


def test_a_graph_that_computes_something_else_is_refused_and_nothing_is_left(
    checkpoint, drawn, play, tmp_path
):
    model = onnx.load(drawn("Llama", "concatenating").path)
    weight = next(w for w in model.graph.initializer if "norm" in w.name and w.raw_data)
    weight.raw_data = weight.raw_data[:-4] + b"\x00\x00\x00\x40"
    onnx.save(model, tmp_path / "other.onnx")
    play(copying(tmp_path / "other.onnx"))
    with pytest.raises(ParityError, match="the graph of optimum differs from the model, nothing written"):
        export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out", prompts=1)
    assert {path.name for path in tmp_path.iterdir()} == {"python", "other.onnx"}


def test_a_graph_of_another_model_is_refused(checkpoint, drawn, play, tmp_path):
    play(copying(drawn("Llama", "concatenating").path))
    changed = shutil.copytree(checkpoint("GPT2"), tmp_path / "gpt2")
    with pytest.raises(BundleError, match="model.onnx: .*the model"):
        export_with_engine("optimum", changed, tmp_path / "out", prompts=1)


def test_a_graph_with_an_operator_that_runs_code_is_not_opened(checkpoint, drawn, play, tmp_path):
    model = onnx.load(drawn("Llama", "concatenating").path)
    model.graph.node.append(onnx.helper.make_node("PyOp", [], ["y"], domain="ai.onnx.contrib"))
    onnx.save(model, tmp_path / "evil.onnx")
    play(copying(tmp_path / "evil.onnx"))
    with pytest.raises(BundleError, match="calls 'ai.onnx.contrib:PyOp', which is refused"):
        export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out", prompts=1)


def test_an_engine_that_fails_is_quoted_in_one_line(checkpoint, play, tmp_path):
    play("print('loading')\nraise ValueError('no such\\nthing')")
    with pytest.raises(EngineError, match="--engine optimum: failed with status 1: thing") as error:
        export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
    play("pass")
    with pytest.raises(EngineError, match="failed with status 0: it said nothing"):
        export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out")


def test_an_engine_that_is_not_there_says_how_to_install_it(checkpoint, play, tmp_path, monkeypatch):
    play("", installed=False)
    message = (
        "optimum.exporters.onnx is not installed for .*; python -m venv .venv-optimum && "
        ".venv-optimum/bin/pip install optimum-onnx .*, "
        "then set DECODEKIT_OPTIMUM_PYTHON=.venv-optimum/bin/python"
    )
    with pytest.raises(EngineError, match=message):
        export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out")
    monkeypatch.setenv("DECODEKIT_OPTIMUM_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(EngineError, match="nowhere is no Python that runs"):
        export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out")
    monkeypatch.delenv("DECODEKIT_GENAI_PYTHON", raising=False)
    with pytest.raises(EngineError, match="onnxruntime_genai.models.builder is not installed for"):
        export_with_engine("genai", checkpoint("Llama"), tmp_path / "out")


def test_an_environment_in_which_a_checkpoint_could_run_code_is_refused(checkpoint, play, tmp_path):
    play("", kernels=True)
    with pytest.raises(
        EngineError, match=r"has the package kernels, .*transformers 4.57.6 \(CVE-2026-4372\)"
    ):
        export_with_engine("optimum", checkpoint("Llama"), tmp_path / "out")


@pytest.mark.parametrize(
    "words",
    [
        ["--quantize", "int4"],
        ["--compact"],
        ["--cache", "concatenating"],
        ["--keep", "lm_head"],
        ["--merge", "x"],
        ["--dtype", "float16"],
        ["--adapter", "x"],
        ["--text", "x"],
    ],
)
def test_what_an_engine_cannot_do_is_an_error(checkpoint, tmp_path, words):
    parser, command = argparse.ArgumentParser(), Export(None)
    command.add_arguments(parser)
    out = str(tmp_path / "out")
    args = parser.parse_args([str(checkpoint("Llama")), "--out", out, "--engine", "genai", *words])
    with pytest.raises(ExportError, match=f"--engine genai and {words[0]} exclude each other"):
        command.run(args)
    assert not os.path.exists(out)


def test_rotary_parameters_are_spelled_as_older_versions_read_them():
    both = {"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5, "partial_rotary_factor": 0.5}
    assert older_spelling({"rope_parameters": both}) == {
        "rope_parameters": both,
        "rope_theta": 5e5,
        "partial_rotary_factor": 0.5,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }
    by_layer = {
        "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    older = older_spelling({"rope_parameters": by_layer})
    assert (older["rope_theta"], older["rope_local_base_freq"]) == (1e6, 1e4) and "rope_scaling" not in older
    assert older_spelling({"hidden_size": 8}) == {"hidden_size": 8}
