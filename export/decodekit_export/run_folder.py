"""
The folder of a run that is not finished: a lock and the newest checkpoints, beside the place of the result.

One process writes to it. It goes when the result is there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from decodekit_export import snapshot
from decodekit_export.errors import BusyError

SUFFIX = ".run"


class RunFolder:
    """Checkpoints of the run that makes `out`, in `out.run`. Held by one process inside a `with` block."""

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(out.name + SUFFIX)
        self._lock: int | None = None

    def __enter__(self) -> RunFolder:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holder = os.read(self._lock, 200).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise BusyError(
                f"{self.path}: another run is writing there ({holder}); wait for it or choose another --out"
            ) from exc
        os.truncate(self._lock, 0)
        os.write(self._lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        for rest in self.path.glob(snapshot.HIDDEN + "*"):
            shutil.rmtree(rest)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lock is not None
        if not self.steps():  # nothing is lost with it
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)

    def steps(self) -> list[int]:
        """The steps after which there is a checkpoint, ascending."""
        names = [path.name for path in self.path.glob("checkpoint-*")]
        return sorted(int(found[1]) for name in names if (found := re.fullmatch(r"checkpoint-(\d+)", name)))

    def place(self, step: int) -> Path:
        return self.path / f"checkpoint-{step}"

    def tidy(self, keep: int, best: int | None) -> None:
        """Remove all but the newest `keep` checkpoints and that of the `best` step."""
        for step in self.steps()[:-keep]:
            if step != best:
                snapshot.remove(self.place(step))

    @contextlib.contextmanager
    def result(self, out: Path) -> Iterator[Path]:
        """A folder to write the result to. If the block ends well it becomes `out`, and checkpoints go."""
        draft = self.path / f"{snapshot.HIDDEN}result"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        yield draft
        for path in (*draft.rglob("*"), draft):
            snapshot.sync(path)
        if out.exists():
            out.rmdir()
        draft.rename(out)
        snapshot.sync(out.parent)
        for step in self.steps():
            snapshot.remove(self.place(step))
