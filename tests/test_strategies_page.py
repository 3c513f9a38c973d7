"""The page of all strategies, and the table of plugins, are those of today."""

import re
from pathlib import Path

from decodekit.plugins import load_plugins
from decodekit.schema import LABELS, labels

ROOT = Path(__file__).parent.parent


def test_every_built_in_strategy_is_defined(plugins):
    for registry in (plugins.logits_processors, plugins.stopping_criteria):
        for name, (factory, _) in registry.entries.items():
            assert set(labels(factory)) == set(LABELS), name


def test_show_and_page_tell_the_same(run):
    shown = " ".join(run("plugins", "show", "top_p")[1].split())
    assert "ICLR 2020" in shown and "neutral" in shown
    page = run("plugins", "page")[1]
    assert "### top_p" in page and "| `p` | probability mass to keep | [0, 1] |" in page


def test_the_page_in_the_documentation_is_that_of_today(run, plugins):
    """For what is built in; plugins are compared where they are installed."""
    written = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    for entry in run("plugins", "page")[1].split("\n### ")[1:]:
        assert entry.partition("\n## ")[0].strip() in written, "make docs/strategies.md again"


def test_the_documentation_tells_which_strategies_run_in_a_graph(run):
    """Of the built-in ones; those of plugins are in the same table."""
    written = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8").partition("## What runs in")[2]
    _, _, table = run("plugins", "page")[1].partition("## What runs in")
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 8 and "| `top_p` | graph |" in rows
    assert not [row for row in rows if row not in written], "make docs/strategies.md again"


def test_the_table_of_plugins_names_what_each_registers():
    table = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[(decodekit-[\w-]+)\]\(\1\) \| (.*) \|$", table, re.MULTILINE))
    folders = [
        folder for folder in (ROOT / "plugins").glob("decodekit-*") if (folder / "pyproject.toml").exists()
    ]
    assert set(rows) == {folder.name for folder in folders}
    for folder in folders:
        sources = [path.read_text(encoding="utf-8") for path in folder.glob("decodekit_*/*.py")]
        sources += [path.read_text(encoding="utf-8") for path in folder.glob("decodekit_*.py")]
        names = {
            name
            for source in sources
            for name in re.findall(r"^    register\(\"(\w+)\"", source, re.MULTILINE)
        }
        names = {name.replace("_", "-") for name in names - {"watermark"}}  # that one is a command
        told = {name.replace("_", "-") for name in re.findall(r"`(\w[\w-]*)`", rows[folder.name])}
        assert names == told, folder.name


def test_every_strategy_of_this_repository_is_defined():
    """Where it is installed; but for the smallest plugin, which is one for a reader."""
    plugins = load_plugins()
    for registry in (plugins.logits_processors, plugins.stopping_criteria):
        for name, (factory, plugin) in registry.entries.items():
            if plugin.origin.startswith(str(ROOT / "plugins")) and plugin.name != "hello":
                assert set(labels(factory)) == set(LABELS), name
