"""A new plugin passes at once, and nothing is overwritten for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from decodekit.errors import InputError
from decodekit.new_plugin import new_plugin

ROOT = Path(__file__).parent.parent


def test_a_new_plugin_passes_at_once(tmp_path, monkeypatch, run):
    site, names = tmp_path / "site", {"soft_pull": "processor", "full_stops": "criterion"}
    folders = [new_plugin(name, kind, tmp_path / name) for name, kind in names.items()]
    install = ["pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{ROOT}")
    for words in ([*install, *map(str, folders)], ["pytest", "-q", "--import-mode=importlib", str(tmp_path)]):
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("DECODEKIT_PLUGINS", ",".join(names))
    for folder, name in zip(folders, names, strict=True):
        status, out, err = run("plugins", "check", f"decodekit-{name.replace('_', '-')}", "--json")
        assert status == 0 and json.loads(out)[name]["passed"], out + err
        for file in ("README.md", ".gitignore", "pyproject.toml"):
            assert "@" not in (folder / file).read_text()
        assert f"plugins check {name}" in (folder / ".github" / "workflows" / "test.yml").read_text()


def test_a_new_plugin_overwrites_nothing(tmp_path, run):
    with pytest.raises(InputError, match="already exists"):
        new_plugin("mine", "processor", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My-Sampler", "snake_case, such as top_p, got 'My-Sampler'"),
        ("../elsewhere", "snake_case"),
        ("a" * 65, "at most 64 characters"),
        ("top_p", "top_p is a strategy of decodekit 0"),
        ("stop_strings", "stop_strings is a strategy of decodekit 0"),
        ("lambda", "means something else"),
        ("dataclass", "means something else"),  # the function would hide it
        ("real", "means something else"),  # the class would
        ("np", "means something else"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(tmp_path, monkeypatch, run, name, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = run("plugins", "new", name)
    assert status == 2 and message in err and list(tmp_path.iterdir()) == []
