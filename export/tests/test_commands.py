from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from decodekit_export.commands import Export
from decodekit_export.errors import ExportError


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command = Export(None)
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv))


def test_the_decodekit_command_finds_the_verb():
    found = [e.value for e in entry_points(group="decodekit") if e.name == "export"]
    assert found == ["decodekit_export.commands"]


def test_loading_the_commands_loads_nothing_heavy():
    code = (
        "import sys, decodekit_export.commands;"
        "print([m for m in ('torch', 'transformers', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_export_writes_a_bundle_and_says_how_near_it_is(checkpoint, tmp_path, capsys):
    (tmp_path / "terms").write_text("Share alike.")
    status = run(
        str(checkpoint("GPT2")),
        *("--out", str(tmp_path / "out"), "--name", "tiny", "--license-file", str(tmp_path / "terms")),
        *("--cache", "concatenating", "--prompts", "3", "--json"),
    )
    assert status == 0
    shown = capsys.readouterr()
    manifest = json.loads(shown.out)
    assert (manifest["name"], manifest["license"]) == ("tiny", "Share alike.")
    assert manifest["graph"]["cache"]["kind"] == "concatenating"
    for word in ("load", "trace", "check", "write", "logits, ragged steps", "96 tokens after 3 prompts"):
        assert word in shown.err


def test_a_licence_that_cannot_be_read_is_an_error(checkpoint, tmp_path):
    with pytest.raises(ExportError, match=r"--license-file .*nonesuch: cannot be read"):
        run(
            str(checkpoint("GPT2")),
            "--out",
            str(tmp_path / "out"),
            "--license-file",
            str(tmp_path / "nonesuch"),
        )
    assert not (tmp_path / "out").exists()


def test_an_option_of_rounding_alone_is_an_error(checkpoint, tmp_path):
    for option, message in (
        ("--asymmetric", "pass --quantize too"),
        ("--block 64", "--block says how weights are rounded; pass --quantize too"),
        ("--block 0", "--block says how weights are rounded; pass --quantize too"),
        ("--quantize int4 --block 0", "block must be one of"),
        ("--keep=lm_head", "and all does"),
        ("--text=mine.txt", "is read to report on rounding"),
    ):
        with pytest.raises(ExportError, match=message):
            run(str(checkpoint("GPT2")), "--out", str(tmp_path / "out"), *option.split())
    assert not (tmp_path / "out").exists()
