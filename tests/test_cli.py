import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from decodekit.bundle import EMBEDDED, MANIFEST
from decodekit.cli import main
from decodekit.errors import DecodekitError

COFFEE = "Give me a tagline for a new coffee shop."


@pytest.fixture
def copy(tmp_path):
    """The embedded bundle, to be spoilt."""
    return Path(shutil.copytree(EMBEDDED / "tagline", tmp_path / "bundle"))


def test_generate_prints_the_answer_and_how_it_ended(run):
    status, out, err = run("generate", "tagline", COFFEE)
    assert status == 0
    assert 2 <= len(out.split()) <= 15
    assert "stop (token" in err and "seed" in err


def test_generate_streams_what_the_library_gives(run):
    _, streamed, _ = run(
        "generate", "tagline", COFFEE, "-p", "temperature=0.9", "-p", "top_p=0.9", "--seed", "4"
    )
    _, data, _ = run(
        "generate", "tagline", COFFEE, "-p", "temperature=0.9, top_p=0.9", "--seed", "4", "--json"
    )
    assert json.loads(data)["text"] == streamed.rstrip("\n")


def test_json_is_one_object_per_prompt_and_answer(run):
    status, out, _ = run(
        "generate",
        "tagline",
        COFFEE,
        "Slogan for a bakery.",
        "-n",
        "2",
        "--json",
        "--seed",
        "1",
        "-p",
        "temperature=1",
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [row["sample"] for row in rows] == [0, 1, 0, 1]
    assert {"text", "finish_reason", "usage", "tokens", "recipe", "seed"} <= rows[0].keys()


def test_a_prompt_comes_from_standard_input(run, monkeypatch):
    import io

    _, expected, _ = run("generate", "tagline", COFFEE)
    monkeypatch.setattr(sys, "stdin", io.StringIO(COFFEE + "\n"))
    assert run("generate", "tagline", "-")[1] == expected


def test_the_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"decodekit {metadata.version('decodekit')}\n"


def test_limits_and_stops_reach_the_decoder(run):
    _, out, _ = run("generate", "tagline", COFFEE, "--max-new-tokens", "1", "--json")
    assert json.loads(out)["finish_reason"] == "length"
    text = json.loads(run("generate", "tagline", COFFEE, "--json")[1])["text"]
    _, out, _ = run("generate", "tagline", COFFEE, "--stop", text[3:6], "--json")
    assert json.loads(out)["text"] == text[: text.find(text[3:6])]
    _, out, _ = run("generate", "tagline", COFFEE, "-c", "max_new_tokens=2", "--json")
    assert json.loads(out)["usage"]["completion_tokens"] == 2


def test_logprobs_are_shown(run):
    status, out, _ = run("generate", "tagline", COFFEE, "--logprobs", "2")
    assert status == 0 and "logprob" in out


def test_compare_shows_what_each_chain_keeps(run):
    status, out, _ = run("compare", "tagline", COFFEE, "greedy", "top_k=3", "--tokens", "1", "--top", "4")
    assert status == 0
    assert "█" in out and "greedy" in out and "kept" in out and "answers" in out


def test_compare_as_json_has_the_probabilities_of_every_chain(run):
    status, out, _ = run("compare", "tagline", COFFEE, "greedy", "top_k=3", "--tokens", "1", "--json")
    (place,) = json.loads(out)["places"]
    assert status == 0
    assert place["kept"] == {"greedy": 1, "top_k=3": 3}
    assert [
        sum(c["under"]["greedy"] > 0 for c in place["candidates"]),
        place["candidates"][0]["under"]["greedy"],
    ] == [1, 1.0]


@pytest.mark.parametrize(("option", "message"), [("--tokens", "places must be"), ("--top", "top must be")])
def test_compare_looks_at_something(run, option, message):
    status, out, err = run("compare", "tagline", COFFEE, "greedy", option, "0")
    assert (status, out) == (2, "") and message in err


def test_inspect_names_what_the_bundle_is(run):
    status, out, _ = run("inspect", "tagline")
    assert status == 0
    assert "in_place" in out and "model.onnx" in out and "parity" in out
    status, out, _ = run("inspect", "tagline", "--json")
    assert json.loads(out)["name"] == "tagline"


def test_plugins_list_names_every_strategy(run, plugins):
    status, out, _ = run("plugins", "list", "--json")
    offers = json.loads(out)["offers"]
    assert status == 0
    assert {o["name"] for o in offers["logits processor"]} == set(plugins.logits_processors.entries)
    assert "top_p" in run("plugins", "list")[1]


def test_doctor_finds_onnxruntime_with_telemetry_off(run):
    status, out, _ = run("doctor", "--json")
    facts = json.loads(out)["facts"]
    assert status == 0
    assert "CPUExecutionProvider" in facts["providers"] and facts["onnxruntime telemetry"] == "off"


def spoil_truncated(folder):
    graph = folder / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1000])


def spoil_vocabulary(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["vocabulary"] //= 2
    manifest["stop_ids"] = [0]
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (
            lambda f: (f / "model.onnx").unlink(),
            "E_BUNDLE",
            "model.onnx: No such file or directory, though decodekit.json lists it",
        ),
        (spoil_truncated, "E_BUNDLE_HASH", "the manifest says"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "E_BUNDLE_HASH", "tokenizer.json"),
        (spoil_vocabulary, "E_BUNDLE", "is out of reach; they are of different models"),
        (
            lambda f: (f / MANIFEST).unlink(),
            "E_BUNDLE",
            "no decodekit.json, genai_config.json or config.json",
        ),
    ],
)
def test_a_spoilt_bundle_is_one_line_and_status_2(run, copy, spoil, code, message):
    spoil(copy)
    status, out, err = run("generate", str(copy), COFFEE)
    assert (status, out) == (2, "")
    assert err.startswith(f"error[{code}]: ") and message in err
    assert err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", COFFEE], "no such folder"),
        (["tagline", ""], "prompt is empty"),
        (["tagline", "x" * 5000], "exceeds the context window of 256"),
        (["tagline", "word " * 300], "exceed the context window"),
        (["tagline", COFFEE, "-p", "topp=0.9"], "did you mean 'top_p'?"),
        (["tagline", COFFEE, "-p", "top_p=1.2"], "top_p: p must be in [0, 1], got 1.2"),
        (["tagline", COFFEE, "-p", "top_p=NaN"], "top_p: p must be in [0, 1], got nan"),
        (["tagline", COFFEE, "--seed", "-1"], "seed must be in"),
        (["tagline", COFFEE, "--max-new-tokens", "0"], "max_new_tokens: n must be in [1, inf)"),
        (["tagline", COFFEE, "-n", "0"], "n must be in [1, 128], got 0"),
        (["tagline", COFFEE, "--beams", "2", "-n", "0"], "n must be in [1, 2], got 0"),
        (["tagline", COFFEE, "--beams", "2", "--preset", "x"], "--beams and --preset exclude each other"),
        (["tagline", COFFEE, "--preset", "nowhere"], "nowhere: cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_status_2(run, words, message):
    status, out, err = run("generate", *words)
    assert (status, out) == (2, "")
    assert err.startswith("error[E_") and message in err and err.count("\n") == 1


def test_cuda_without_cuda_is_status_3_and_never_the_cpu(run):
    status, out, err = run("generate", "tagline", COFFEE, "--device", "cuda")
    if status == 0:
        pytest.skip("this onnxruntime has CUDA")
    assert (status, out) == (3, "")
    assert "error[E_DEVICE]" in err and "pip install 'decodekit[gpu]'" in err


def test_debug_shows_where_an_error_came_from(run):
    with pytest.raises(DecodekitError):
        run("generate", "nowhere", COFFEE, "--debug")


def test_a_fault_of_ours_is_status_4_without_a_traceback(run, monkeypatch):
    monkeypatch.setattr("decodekit.bundle.open_bundle", lambda path: 1 / 0)
    status, _, err = run("inspect", "tagline")
    assert status == 4 and err.startswith("error[E_INTERNAL]: ZeroDivisionError") and err.count("\n") == 1


def plugin(folder, name, body):
    """A distribution as pip leaves it, on the module path."""
    (folder / f"{name}.py").write_text(body)
    info = folder / f"decodekit_{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: decodekit-{name}\nVersion: 1.0\n")
    (info / "RECORD").write_text(f"{name}.py,,\n")
    (info / "entry_points.txt").write_text(f"[decodekit]\n{name} = {name}\n")


def child(folder, *words, allowed):
    environment = os.environ | {"PYTHONPATH": str(folder), "DECODEKIT_PLUGINS": allowed}
    command = [sys.executable, "-m", "decodekit.cli", *words]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


REGISTERS = """
from decodekit import LogitsProcessor, hookimpl

class Same(LogitsProcessor):
    def process(self, logits, step, state):
        return logits

@hookimpl
def register_logits_processors(register):
    register("same", Same)
"""


def test_a_plugin_that_raises_at_import_is_a_warning_and_the_rest_works(tmp_path):
    plugin(tmp_path, "bad", "raise ImportError('no scipy')")
    done = child(tmp_path, "generate", "tagline", COFFEE, allowed="bad")
    assert done.returncode == 0 and done.stdout.strip()
    assert "decodekit-bad 1.0 is broken: ImportError: no scipy" in " ".join(done.stderr.split())
    done = child(tmp_path, "generate", "tagline", COFFEE, "-p", "dry=1", allowed="bad")
    assert done.returncode == 2 and "decodekit-bad 1.0 is broken" in done.stderr.splitlines()[-1]


def test_two_plugins_with_one_name_are_status_3_and_both_are_named(tmp_path):
    plugin(tmp_path, "first", REGISTERS)
    plugin(tmp_path, "second", REGISTERS)
    done = child(tmp_path, "generate", "tagline", COFFEE, allowed="first,second")
    assert done.returncode == 3
    assert (
        "error[E_PLUGIN]" in done.stderr
        and "decodekit-first 1.0" in done.stderr
        and "decodekit-second" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert (
        child(
            tmp_path, "generate", "tagline", COFFEE, "-p", "same", "-p", "greedy", allowed="first"
        ).returncode
        == 0
    )


def test_a_plugin_that_raises_at_a_step_is_named_with_its_distribution(tmp_path):
    plugin(tmp_path, "falls", REGISTERS.replace("return logits", "raise RuntimeError('lost')"))
    done = child(tmp_path, "generate", "tagline", COFFEE, "-p", "same", allowed="falls")
    assert done.returncode == 4
    assert "decodekit-falls 1.0" in done.stderr and "RuntimeError('lost') at token 0" in done.stderr


TELLS = """
import decodekit
from decodekit import Command, hookimpl

class Tells(Command):
    def run(self, args):
        with decodekit.load("tagline", plugins=self.plugins) as decoder:
            assert decoder.plugins is self.plugins
            print("same" in decoder.plugins.logits_processors.entries)
        return 0

@hookimpl
def register_commands(register):
    register("tells_it", Tells)
"""


def test_a_command_of_a_plugin_uses_what_is_not_disabled(tmp_path, monkeypatch):
    plugin(tmp_path, "first", REGISTERS)
    plugin(tmp_path, "tells", TELLS)
    monkeypatch.setenv("DECODEKIT_PLUGINS_FILE", str(tmp_path / "plugins.json"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("DECODEKIT_PLUGINS", raising=False)

    def run(*words):
        command = [sys.executable, "-m", "decodekit.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert run("tells-it") == "True"
    run("plugins", "disable", "first")
    assert run("tells-it") == "False"


def test_a_closed_pipe_ends_quietly():
    for words in ("plugins list --json", "plugins list"):
        command = f"{sys.executable} -m decodekit.cli {words} | head -c 1; exit ${{PIPESTATUS[0]}}"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_a_preset_is_a_chain_and_what_it_assumes_is_said(run, tmp_path):
    preset = tmp_path / "generation_config.json"
    preset.write_text('{"do_sample": true, "temperature": 0.7, "top_p": 0.9}')
    words = ["generate", "tagline", "A bakery", "--seed", "1", "--json"]
    status, out, err = run(*words, "--preset", str(preset), "--preset-kind", "transformers")
    written = ["-p", "temperature=0.7", "-p", "top_k=50", "-p", "top_p=0.9"]
    assert status == 0 and "top_k assumed: 50" in err
    assert json.loads(out)["tokens"] == json.loads(run(*words, *written)[1])["tokens"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a preset in JSON"),
        ('{"mirostat": 2}', "mirostat is not installed; it is in decodekit-mirostat"),
        ('{"temp": "hot"}', "got 'hot'"),
    ],
)
def test_a_preset_that_cannot_be_kept_is_refused(run, tmp_path, content, message):
    (tmp_path / "preset.json").write_text(content)
    words = ["--preset", str(tmp_path / "preset.json"), "--preset-kind", "llama.cpp"]
    status, out, err = run("generate", "tagline", "A bakery", *words)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1
