"""What hostile folders are made of, and a process in which they are opened under watch."""

from pathlib import Path

import pytest
from onnx_bytes import write_folder
from watched import Watched

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture(scope="session")
def attack():
    """Do something ("open", "load", "inspect", "graph") with a path; a report of what happened."""
    watched = Watched("runtime", FIXTURES / "in_place", FIXTURES / "optimum", FIXTURES / "genai")
    yield watched
    watched.close()


@pytest.fixture
def folder(tmp_path, tokenizer_file):
    """A folder of another exporter that opens; a test then does something to it."""
    return write_folder(tmp_path / "folder", tokenizer_file)


@pytest.fixture
def refused(attack):
    """Opening a folder is this error, and nothing but its files was touched."""

    def refused(folder, message, error="BundleError"):
        attack("open", folder).refused(message, error)

    return refused


@pytest.fixture
def refused_graph(attack, refused):
    """The same for a graph: of a folder that is in order otherwise, or alone."""

    def refused_graph(place, message, content=None):
        if content is None:
            return attack("graph", place).refused(message)
        (place / "model.onnx").write_bytes(content)
        return refused(place, message)

    return refused_graph
