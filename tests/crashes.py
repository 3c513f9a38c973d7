"""
Crashes: a job is ended at every call that reaches the disk, or killed at random moments, and goes on.

    python tests/crashes.py calls                 at each write, fsync, rename and truncation, four ways
    python tests/crashes.py moments --kills 500   kill -9 at random moments, until so many struck

In the end the results must be those of a run that nothing happened to, byte by byte. Exit status 1 if not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import decodekit
from decodekit.bundle import Bundle, open_bundle
from decodekit.decoder import Decoder
from decodekit.errors import ParameterError
from decodekit.jobs import job_file
from decodekit.jobs.answering import Answering, Finished
from decodekit.jobs.job import Job, Unseen
from decodekit.jobs.sources import open_source
from decodekit.jobs.tasks import Tasks
from decodekit.testing import TableModel
from decodekit.tokenizer import Tokenizer

FIXTURE = Path(__file__).parent / "fixtures" / "in_place"
PLUGINS = decodekit.load_plugins(only=())
HOWS = ("before", "after", "torn", "power")
FAILS = 7  # of so many rows one, as long as the file `mended` is missing


@dataclass(frozen=True)
class Case:
    """A job in a folder."""

    folder: Path
    ordered: bool
    model: str = "table"

    @property
    def results(self) -> Path:
        return self.folder / "out.jsonl"

    def run(self, *, retry: bool = False) -> None:
        with closing(table_decoder() if self.model == "table" else decodekit.load(self.model)) as decoder:
            Job(
                source=open_source(str(self.folder / "in.jsonl"), folder=self.folder),
                results=self.results,
                begun_with={"settings": {"ordered": self.ordered}},
                answerer=lambda seed: Flaky(Answering(decoder, Tasks(PLUGINS), seed), self.folder / "mended"),
                seed=1,
                ordered=self.ordered,
                group=5,
            ).run(lambda rows, done: Unseen(), retry=retry)

    def all_of_it(self) -> None:
        """The job, and its failed rows once more after they were mended."""
        self.run()
        (self.folder / "mended").touch()
        self.run(retry=True)


class Flaky:
    """Some rows fail until something is mended."""

    def __init__(self, answering: Answering, mended: Path) -> None:
        self._answering, self._mended = answering, mended

    def begin(self, row: Any) -> Any:
        if row.number % FAILS or self._mended.exists():
            return self._answering.begin(row)
        error = {"code": ParameterError.code, "message": "planned", "line": row.line}
        return Finished({"row": row.number, "id": row.fields["id"], "error": error})


class Faults:
    """Counts calls that reach the disk; ends the process at one of them.

    how  "before" or "after" the call; "torn": half of what it writes; "power": what is not synced is lost
    """

    CALLS = ("write", "fsync", "replace", "ftruncate")

    def __init__(self, at: int, how: str) -> None:
        self.count, self._at, self._how = 0, at, how
        self._real = {name: getattr(os, name) for name in self.CALLS}
        self._synced: dict[str, int] = {}  # bytes, by path
        self._renamed: list[tuple[str, bytes | None]] = []  # since a folder was synced: what was there
        for name in self.CALLS:
            setattr(os, name, lambda *args, name=name: self._call(name, *args))

    def _call(self, name: str, *args: Any) -> Any:
        now = self.count == self._at
        self.count += 1
        if now and self._how in ("before", "power"):
            self._end()
        if now and self._how == "torn" and name == "write":
            self._real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
            self._end()
        if name == "write":
            path = os.readlink(f"/proc/self/fd/{args[0]}")
            self._synced.setdefault(path, os.fstat(args[0]).st_size)
        if name == "replace":
            target = Path(args[1])
            self._renamed.append((str(target), target.read_bytes() if target.exists() else None))
        done = self._real[name](*args)
        if name == "fsync":
            self._note_sync(args[0])
        if now:
            self._end()
        return done

    def _note_sync(self, file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        if os.path.isdir(path):
            self._renamed.clear()
        self._synced[path] = os.fstat(file).st_size

    def _end(self) -> None:
        if self._how == "power":
            for path, content in reversed(self._renamed):
                Path(path).unlink() if content is None else Path(path).write_bytes(content)
            for path, size in self._synced.items():
                if os.path.isfile(path) and os.stat(path).st_size > size and not path.endswith(".job"):
                    os.truncate(path, size)
        os.kill(os.getpid(), signal.SIGKILL)


def table_decoder() -> Decoder:
    """A model that costs nothing."""
    bundle = open_bundle(FIXTURE)
    table = np.random.default_rng(1).standard_normal((bundle.vocabulary,) * 2).astype(np.float32) * 3
    manifest = {**bundle.manifest, "context_length": 100}
    return Decoder(
        TableModel(table, 100), Tokenizer(bundle.tokenizer), Bundle(bundle.path, manifest), PLUGINS
    )


def write_input(path: Path, rows: int) -> None:
    """Rows of every kind."""
    chains = [
        '"temperature": 0.9',
        '"temperature": 1.1, "top_k": 9',
        '"n": 2, "temperature": 1',
        '"top_p": 7',
    ]
    with path.open("w") as file:
        for i in range(rows):
            chain = chains[i % len(chains)]
            file.write(
                f'{{"id": "ü{i}", "prompt": "row {i}", "max_new_tokens": {1 + i * i % 30}, {chain}}}\n'
            )


def child(act: Callable[[], Any]) -> int:
    """The process id of a child that does something and ends."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            act()
            status = 0
        except BaseException as exc:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    return pid


def status(pid: int) -> int:
    """Of a child; negative: the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Trial:
    """The unbroken run, and what broken ones are held against."""

    def __init__(self, folder: Path, ordered: bool, rows: int, model: str = "table") -> None:
        self.folder, self.ordered, self.model = folder, ordered, model
        self.wrong: list[str] = []
        write_input(folder / "in.jsonl", rows)
        whole = self.case()
        began = time.monotonic()
        assert status(child(whole.all_of_it)) == 0, "the unbroken run failed"
        self.seconds = time.monotonic() - began
        self.expected = self.read(whole)
        assert len(self.expected.splitlines()) == rows
        assert b"planned" not in self.expected and b"E_PARAMETER" in self.expected

    def case(self) -> Case:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        os.link(self.folder / "in.jsonl", folder / "in.jsonl")
        return Case(folder, self.ordered, self.model)

    def read(self, case: Case) -> bytes:
        data = case.results.read_bytes()
        return data if self.ordered else b"".join(sorted(data.splitlines(keepends=True)))

    def check_promise(self, case: Case, name: str) -> None:
        """What the job file says is on the disk is there."""
        job = job_file.read(job_file.path_of(case.results))
        swapping = (case.folder / "out.jsonl.retry.job").exists()
        if job and not swapping and case.results.stat().st_size < job.checkpoint.bytes:
            self.wrong.append(f"{name}: lost what was told to be safe")

    def finish(self, case: Case, name: str) -> None:
        """Go on until all is done, and look at it."""
        if (code := status(child(case.all_of_it))) != 0:
            self.wrong.append(f"{name}: going on ended with {code}")
        elif self.read(case) != self.expected:
            self.wrong.append(f"{name}: other results")
        elif left := {p.name for p in case.folder.iterdir()} - {
            "in.jsonl",
            "mended",
            "out.jsonl",
            "out.jsonl.job",
        }:
            self.wrong.append(f"{name}: left behind {left}")
        shutil.rmtree(case.folder)


def calls(trial: Trial, every: int) -> int:
    """End the job at calls, the first, the one `every` later, ...; each way, from another first one."""
    struck = 0
    for first, how in enumerate(HOWS):
        for at in count(first % every, every):
            case = trial.case()

            def act(at: int = at, how: str = how, case: Case = case) -> None:
                Faults(at, how)
                case.all_of_it()

            if status(child(act)) == 0:
                shutil.rmtree(case.folder)
                break
            struck += 1
            trial.check_promise(case, f"{how} call {at}")
            trial.finish(case, f"{how} call {at}")
    return struck


def moments(trial: Trial, kills: int) -> int:
    """Kill the job at random moments, the same one over and over, until it is through."""
    rng, struck, case, in_a_row = random.Random(1), 0, trial.case(), 0
    while struck < kills:
        pid = child(case.all_of_it)
        time.sleep(rng.uniform(0, trial.seconds * 1.1))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        code = status(pid)
        struck += code == -signal.SIGKILL
        in_a_row += 1
        if code != -signal.SIGKILL or in_a_row == 12:
            trial.finish(case, f"kill {struck}")
            case, in_a_row = trial.case(), 0
    trial.finish(case, "the last kills")
    return struck


def trials(arguments: argparse.Namespace) -> Iterator[Trial]:
    for ordered in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            yield Trial(Path(folder), ordered, arguments.rows, arguments.model)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["calls", "moments"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=int, default=1, help="of so many calls one")
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--model", default="table", help="a bundle; default: a table of logits")
    arguments = parser.parse_args()
    wrong: list[str] = []
    for trial in trials(arguments):
        if arguments.what == "moments":
            struck = moments(trial, arguments.kills // 2)
        else:
            struck = calls(trial, arguments.every)
        order = "in order" if trial.ordered else "as they are done"
        print(f"{struck} {arguments.what}, records {order}: {len(trial.wrong)} wrong", flush=True)
        wrong += trial.wrong
    for line in wrong[:20]:
        print(line)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
