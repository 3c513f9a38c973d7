"""The recipe's modules are scripts side by side: put their folder on the path."""

import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[1]
sys.path.insert(0, str(RECIPE))


@pytest.fixture(scope="session")
def recipe():
    return RECIPE


@pytest.fixture(scope="session")
def split():
    from pairs import make_split

    return make_split(seed=0)
