"""What hostile folders are made of, and a watch over what a process does while it opens one."""

import os
import sys
from contextlib import contextmanager

import pytest
from onnx_bytes import write_folder

_watching = None


class Events(list):
    """Audit events of the interpreter, in order: (name, arguments)."""

    @property
    def opened(self):
        """Files, by path."""
        return [os.fspath(args[0]) for name, args in self if name == "open" and not isinstance(args[0], int)]


def _hook(name, args):
    if _watching is not None:
        _watching.append((name, args))


sys.addaudithook(_hook)


@pytest.fixture
def watch():
    """Within it, what the process opens, imports, runs and connects to is collected."""

    @contextmanager
    def watch():
        global _watching
        _watching = events = Events()
        try:
            yield events
        finally:
            _watching = None

    return watch


@pytest.fixture
def folder(tmp_path, tokenizer_file):
    """A folder of another exporter that opens; a test then does something to it."""
    return write_folder(tmp_path / "folder", tokenizer_file)
