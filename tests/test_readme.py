"""The README and the pages it points to, executed."""

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from decodekit import cli

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def blocks(text, language):
    return [textwrap.dedent(b) for b in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]


def files():
    """The files that the README's plugin section tells to write."""
    return dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", README, re.DOTALL))


def commands(section):
    text = README.partition(f"## {section}")[2].partition("\n## ")[0]
    lines = [
        line[2:] for block in blocks(text, "console") for line in block.splitlines() if line.startswith("$ ")
    ]
    return [shlex.split(line, comments=True) for line in lines]


def test_the_python_of_the_first_result_runs(capsys):
    (code,) = blocks(README.partition("## First plugin")[0], "python")
    exec(compile(code, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.split()) > 15


@pytest.mark.parametrize("command", commands("First result"), ids=lambda words: " ".join(words[:3]))
def test_the_commands_of_the_first_result_run(command, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if command[0] == "pip":
        assert command[1:] == ["install", "decodekit[cpu]"]
        return
    assert cli.main(command[1:]) == 0
    written = [command[i + 1] for i, word in enumerate(command) if word == "--out"]
    assert all(Path(name).stat().st_size > 10_000 for name in written)
    assert written or capsys.readouterr().out.strip()


def test_the_plugin_section_followed_to_the_letter_gives_a_working_strategy(tmp_path):
    folder, site = tmp_path / "empty", tmp_path / "site"
    folder.mkdir()
    for name, content in files().items():
        (folder / name).write_text(content)
    install = ["install", "-q", "--no-build-isolation", "--no-deps", "--target", str(site), "."]
    subprocess.run([sys.executable, "-m", "pip", *install], cwd=folder, check=True)

    own = {"PYTHONPATH": str(site), "DECODEKIT_PLUGINS": "hello"}
    for command in commands("First plugin")[1:]:
        assert command[0] == "decodekit"
        done = subprocess.run(
            [sys.executable, "-m", "decodekit.cli", *command[1:]],
            cwd=tmp_path,
            env=os.environ | own,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip()


def test_the_plugin_of_the_readme_is_the_one_in_the_repository():
    plugin = ROOT / "plugins" / "decodekit-hello"
    assert files()["decodekit_hello.py"] == (plugin / "decodekit_hello.py").read_text()
    code = [line for line in files()["decodekit_hello.py"].splitlines() if line.strip()]
    assert len(code) == 15


def test_the_strategies_of_the_table_are_the_built_in_ones(plugins):
    table = README.partition("| strategy |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)[=`]", table)) >= set(plugins.logits_processors.entries)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_snippets_of_the_plugin_page_run():
    page = (ROOT / "docs" / "write-a-plugin.md").read_text()
    contract, law, *snippets = blocks(page, "python")
    compile(contract, "write-a-plugin.md", "exec")
    exec(
        law.replace("MyStrategy(0.5)", "TopP(0.5)"),
        {"TopP": __import__("decodekit.strategies.top_p", fromlist=["x"]).TopP},
    )
    for snippet in snippets:
        exec(compile(snippet, "write-a-plugin.md", "exec"), {"__name__": "snippet"})


def test_the_snippets_of_the_decoding_page_run(capsys):
    page = (ROOT / "docs" / "decoding.md").read_text()
    exec(compile("\n".join(blocks(page, "python")), "decoding.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_snippets_of_the_reproducibility_page_run(capsys):
    page = (ROOT / "docs" / "reproducibility.md").read_text()
    exec(compile("\n".join(blocks(page, "python")), "reproducibility.md", "exec"), {})
    assert "tokens and their numbers are the record's" in capsys.readouterr().out


def test_the_commands_about_records_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("slogans.txt").write_text("Fresh bread daily.")
    for command in commands("The same tokens again"):
        assert cli.main(command[1:]) == 0
        assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("place", ["the README", "the page"])
def test_the_commands_about_batches_run(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "batch.md").read_text()
    pair = '{"prompt": "Write a slogan.", "completion": "Fresh."}\n'
    Path("rows.jsonl").write_text(blocks(page, "json")[0])
    Path("pairs.jsonl").write_text(pair * 3)
    lines = [line[2:] for block in blocks(page, "console")[:2] for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines]
    for command in commands("Batches") if place == "the README" else words:
        assert cli.main(command[1:]) == 0
        assert capsys.readouterr().out.strip()
    assert Path("answers.jsonl").read_text().count("\n") == 5


def test_every_hook_and_every_contract_method_is_documented():
    page = (ROOT / "docs" / "write-a-plugin.md").read_text()
    from decodekit import LogitsProcessor, StoppingCriterion, hookspecs

    hooks = [name for name in vars(hookspecs) if name.startswith("register_")]
    methods = [n for c in (LogitsProcessor, StoppingCriterion) for n in vars(c) if not n.startswith("_")]
    assert [name for name in (*hooks, *methods) if name not in page] == []
