"""The table in README.md names a test for every row, and every test is in the table."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_name("README.md")
FILES = [*Path(__file__).parent.glob("test_*.py"), ROOT / "export/tests/test_attacks.py"]
ROWS = [f"M{n}" for n in range(1, 27)] + [f"R{n}" for n in range(1, 11)]


def rows():
    """Row -> the tests that its line names."""
    lines = (re.match(r"\| ([MR]\d+) \|.*\|(.*)\|$", line) for line in TABLE.read_text().splitlines())
    return {line[1]: re.findall(r"`(\w+)`", line[2]) for line in lines if line}


def functions():
    trees = (ast.parse(path.read_text()) for path in FILES if path.exists())
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_table_has_every_row_once_and_in_order():
    assert [*rows()] == ROWS


@pytest.mark.parametrize("row", ROWS)
def test_every_row_names_tests_that_exist(row):
    named = rows()[row]
    assert named and {*named} <= functions()


def test_every_test_of_a_row_is_in_its_line():
    table = rows()
    for name in functions():
        for row in (
            re.findall(r"(?<=_)[mr]\d+(?=_)", name.split("test", 1)[1]) if name.startswith("test_") else []
        ):
            assert name in table[row.upper()], f"{name} is not in the line of {row.upper()}"
