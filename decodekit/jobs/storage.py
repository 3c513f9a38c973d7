"""Storage: what survives a crash. Every call here that returns has reached the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from decodekit.errors import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place, all of it or what was there before."""
    beside = path.with_name(f"{path.name}.tmp")
    with writing(path):
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        os.replace(beside, path)
        sync_folder(path)


def replace(source: Path, target: Path) -> None:
    """Rename a file whose content was synced."""
    with writing(target):
        os.replace(source, target)
        sync_folder(target)


def write_all(file: int, data: bytes) -> None:
    """To an open file, however many calls it takes."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def sync_folder(path: Path) -> None:
    """Make the name of a file survive, as `fsync` does for its content."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot, and need not
            os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What fails within is told as OutputError."""
    try:
        yield
    except OutputError:
        raise
    except OSError as exc:
        raise OutputError(
            f"{path}: cannot be written ({exc.strerror or exc}); mend that and run the same command again"
        ) from exc
