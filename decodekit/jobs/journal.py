"""
The journal: lines that are appended in groups, by one process at a time.

A group is written whole and synced before anything counts as done, so a crash costs the last
group at most. What it leaves behind the last whole line is cut off when the journal is opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from decodekit.errors import LockedError, OutputError
from decodekit.jobs.storage import sync_folder, write_all, writing

BLOCK = 1 << 20  # bytes read at a time
TAIL = 4096  # bytes by which a place is known


class Journal:
    """An append-only file of lines. Closed, it can be opened by another process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[bytes] = []
        with writing(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock()
            with writing(path):
                sync_folder(path)
                self.synced = os.fstat(self._file).st_size
        except BaseException:
            os.close(self._file)
            raise

    @property
    def pending(self) -> int:
        """Lines that are not yet written."""
        return len(self._lines)

    def lines(self, start: int) -> Iterator[bytes]:
        """The whole lines from that byte on, each with its end; what is behind the last one is no line."""
        with self.path.open("rb", buffering=BLOCK) as file:
            file.seek(start)
            for line in file:
                if line.endswith(b"\n"):
                    yield line

    def tail(self, size: int) -> str:
        """Digest of what comes just before that byte: a place is known again by it."""
        begin = max(0, size - TAIL)
        return hashlib.blake2b(os.pread(self._file, size - begin, begin), digest_size=16).hexdigest()

    def cut(self, size: int) -> int:
        """Forget what is behind that byte; how many bytes that was."""
        with writing(self.path):
            lost = os.fstat(self._file).st_size - size
            if lost:
                os.ftruncate(self._file, size)
                os.fsync(self._file)
        self.synced = size
        return lost

    def append(self, line: bytes) -> None:
        """One more line, with its end, of the next group."""
        self._lines.append(line)

    def commit(self) -> None:
        """Write the group. When this returns, it survives."""
        group = b"".join(self._lines)
        if not group:
            return
        try:
            write_all(self._file, group)
            os.fsync(self._file)
        except OSError as exc:
            with suppress(OSError):  # after a failed sync nobody knows what is on the disk
                os.ftruncate(self._file, self.synced)
            raise OutputError(
                f"{self.path}: cannot be written ({exc.strerror or exc}); what was there before is safe; "
                "mend that and run the same command again"
            ) from exc
        self.synced += len(group)
        self._lines.clear()

    def close(self) -> None:
        """Let others write. Lines that are pending are dropped."""
        os.close(self._file)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise LockedError(
                f"{self.path}: another process is writing it; wait for that one, or give another file"
            ) from exc
        except OSError as exc:
            raise OutputError(
                f"{self.path}: cannot be locked ({exc.strerror or exc}); use a file system that has locks"
            ) from exc
