"""docs/serve.md says what the server does: its options, limits and errors, and what is recorded."""

import argparse
import json
import re
from dataclasses import fields
from pathlib import Path

from decodekit_server import errors
from decodekit_server.limits import Limits
from decodekit_server.serve_command import Serve

from decodekit.plugins import load_plugins

PAGE = (Path(__file__).parents[3] / "docs" / "serve.md").read_text()
SOURCES = Path(errors.__file__).parent


def table(head):
    """Rows of the table with that head, each a list of cells."""
    lines = PAGE.partition(f"\n| {head} |")[2].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines[: lines.index("")]]
    assert rows
    return rows


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_every_option_is_there_with_its_default():
    parser = argparse.ArgumentParser(add_help=False)
    Serve(load_plugins(only=())).add_arguments(parser)
    options = {action.option_strings[-1]: action for action in parser._actions if action.option_strings}
    told = {}
    for cell, default, *_ in table("option | default"):
        told |= dict(zip([name.split()[0] for name in names(cell)], default.split(", "), strict=False))
    assert told.keys() == options.keys()
    words = {None: {"none", "all cores"}, False: {"off"}}
    for name, action in options.items():
        if isinstance(action.default, list):
            assert action.default == [] and told[name] in ("none", "see below")
        else:
            assert told[name] in words.get(action.default, {str(action.default)}), name


def test_every_limit_is_there_with_its_default():
    told = {}
    for cell, default, *_ in table("limit | default"):
        told |= dict(zip(names(cell), default.split(", "), strict=True))
    units = {"1 MiB": 1 << 20, "16 KiB": 16 << 10}
    found = {name: units.get(value) or float(value.replace(",", "")) for name, value in told.items()}
    assert found == {field.name: field.default for field in fields(Limits)}


def test_every_error_is_there_with_its_status():
    told = {}
    for statuses, cell, *_ in table("status | codes"):
        for code in re.findall(r"`((?:E_|model_)\w+)`", cell):
            told.setdefault(code, set()).update(statuses.split(", "))
    raised = {}
    for path in SOURCES.rglob("*.py"):
        for status, code in re.findall(r"ApiError\(\s*(\d{3}),\s*\"(\w+)\"", path.read_text()):
            raised.setdefault(code, set()).add(status)
    assert {"E_LIMIT", "E_SLOW", "model_not_found", "E_DRAINING"} <= raised.keys()
    for error in errors._THEIRS:
        raised.setdefault(error.code, set()).add("400")
    missing = {code: statuses for code, statuses in raised.items() if not statuses <= told.get(code, set())}
    assert missing == {}
    elsewhere = {"E_BODY", "E_NOT_FOUND", "E_METHOD", "E_CONNECTIONS", "E_CONTEXT"}  # raised in other words
    ours = {error.code for error in subclasses(errors.DecodekitError)}
    assert told.keys() - raised.keys() <= elsewhere | ours


def subclasses(kind):
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)


def test_so_many_requests_are_recorded():
    recorded = json.loads(Path(__file__).with_name("contract.json").read_text())
    (row,) = re.findall(r"\| (\d+) recorded \|", PAGE)
    assert int(row) == len(recorded)
