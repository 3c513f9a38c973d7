"""What the README shows, runs; what it lists, is listed."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from decodekit_export.commands import Export

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("my-checkpoint").symlink_to(checkpoint("GPT2"))
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})
    assert "'ragged steps': " in capsys.readouterr().out
    assert Path("my-bundle/decodekit.json").is_file()


def test_every_option_is_explained():
    parser = argparse.ArgumentParser()
    Export(None).add_arguments(parser)
    options = set(re.findall(r"--[a-z-]+", parser.format_help())) - {"--help"}
    assert options <= set(re.findall(r"--[a-z-]+", README.read_text(encoding="utf-8")))
