"""A folder that is whole or absent: made beside its place and moved there at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_or_absent(place: Path) -> Iterator[Path]:
    """A folder beside `place` to work in; it becomes `place` if the block ends well, else it goes."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = place.with_name(f".{place.name}.{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
        if place.exists():
            place.rmdir()
        folder.rename(place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
