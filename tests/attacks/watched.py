"""Hostile folders are opened in a process of their own, and what it did is looked at afterwards."""

import ctypes
import json
import os
import re
import selectors
import struct
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10  # for any input
BYTES = 700 << 20  # of memory, above what the libraries take
LIBRARIES = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib", "platlib")]
LIBRARIES += [Path(__file__).resolve().parents[2] / name for name in ("decodekit", "export/decodekit_export")]
LIBRARIES += [Path(path) for path in sys.path if path.endswith(".zip")]
SYSTEM = ("<frozen ", "/proc/meminfo", "/proc/mounts", "/proc/self/", "/sys/fs/cgroup/", "/dev/null")
READ = {".json", ".onnx", ".data", ".onnx_data", ".jinja", ".safetensors", ""}
OFFLINE = [(f"{verb}env", "b'HF_HUB_OFFLINE'") for verb in ("put", "unset")]
IN_OPEN, IN_ISDIR, IN_NONBLOCK = 0x20, 0x40000000, 0x800


@dataclass
class Report:
    """What a watched action came to."""

    folder: Path
    error: dict | None
    told: object
    warned: list
    events: list
    seconds: float
    grown: int
    touched: list
    copies: str | None = None  # beginning of folders that it may make for itself

    def refused_after(self, running, message):
        """The same for a tokenizer that is tried in a process of its own."""
        self.refused(message, "TokenizerError", "E_TOKENIZER", [running])

    def refused(self, message, error="BundleError", code=None, running=()):
        """It ended in that error, which is one line with a code; and did nothing else."""
        assert self.error, f"accepted: {self.told}"
        assert re.search(message, self.error["text"], re.S), self.error
        kinds = [error] if isinstance(error, str) else error
        assert {*kinds} & {*self.error["types"]}, self.error
        assert code in (None, self.error["code"]) and re.fullmatch("E_[A-Z_]+", self.error["code"]), (
            self.error
        )
        told = self.error["text"].replace(str(self.folder), "")
        assert "DecodekitError" in self.error["types"] and told.isprintable(), self.error
        self.silent(running)

    def accepted(self):
        assert self.error is None, self.error
        self.silent()
        return self.told

    def silent(self, running=()):
        """It read the folder and libraries, and did nothing else; in bounded time and memory.

        running  patterns of command lines that it may run
        """
        doing = [(name, what) for name, what, *_ in self.events if name != "open"]
        for name, what in doing:
            if running and (name == "os.kill" or any(re.search(pattern, what) for pattern in running)):
                continue
            if name in ("exec", "compile"):  # jinja2 makes functions of templates, in its sandbox
                assert what in ("<template>", "<unknown>") or _of_library(what), (name, what)
            elif (name.removeprefix("os."), what) in OFFLINE and self.copies is not None:
                pass  # it says itself that nothing may be fetched
            elif self.copies is not None and name.startswith(("os.", "tempfile.", "shutil.")):
                assert what.startswith(self.copies) or _within(what, self.folder), (name, what)
            else:
                assert name == "import" and not _within(what, self.folder), (name, what)
        for _, path, mode, flags in (event for event in self.events if event[0] == "open"):
            if self.copies is not None and path.startswith(self.copies):
                continue
            assert not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC), (path, mode, flags)
            inside = _within(path, self.folder)
            assert inside or _of_library(path), f"opened {path}"
            assert not inside or Path(path).suffix in READ, f"opened {path}"
        assert self.touched == [], f"opened outside the folder, perhaps by native code: {self.touched}"
        assert self.seconds < SECONDS, self.seconds
        assert self.grown < BYTES, self.grown

    @property
    def opened(self):
        return [path for name, path, *_ in self.events if name == "open"]


class Watched:
    """A worker process, started when it is needed and again when an attack ended it."""

    def __init__(self, kind, *orderly, python=sys.executable):
        self._words = [python, str(Path(__file__).with_name("worker.py")), kind, *map(str, orderly)]
        self._process = None
        self._copies = f"{tempfile.gettempdir()}/decodekit-" if kind == "export" else None

    def __call__(self, do, path):
        path = Path(path)
        folder = path.parent if do == "graph" or path.suffix == ".onnx" else path
        process = self._started()
        with Openings([p for p in (folder.parent, *folder.parent.glob("*/")) if p != folder]) as openings:
            process.stdin.write(json.dumps([do, str(path)]) + "\n")
            answer = self._answer(SECONDS + 20)
            touched = openings.read()
        return Report(folder=folder, touched=touched, copies=self._copies, **json.loads(answer))

    def close(self):
        if self._process:
            self._process.kill()
            self._process.communicate()

    def _started(self):
        if self._process is None or self._process.poll() is not None:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(self._words, stdin=pipe, stdout=pipe, text=True, bufsize=1)
            assert self._answer(120) == "ready\n"
        return self._process

    def _answer(self, seconds):
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                self._process.kill()
                raise AssertionError(f"no answer within {seconds} s")
        line = self._process.stdout.readline()
        assert line, f"the process ended with status {self._process.wait()}"
        return line


class Openings:
    """Files in some folders that any process opens, native code included; on Linux, by inotify."""

    def __init__(self, folders):
        self._folders = [folder for folder in folders if folder.is_dir() and os.access(folder, os.R_OK)]

    def __enter__(self):
        self._fd, self._names = -1, {}
        if sys.platform == "linux":
            libc = ctypes.CDLL(None)
            self._fd = libc.inotify_init1(IN_NONBLOCK)
            for folder in self._folders:
                self._names[libc.inotify_add_watch(self._fd, os.fsencode(folder), IN_OPEN)] = folder
        return self

    def __exit__(self, *_):
        if self._fd >= 0:
            os.close(self._fd)

    def read(self):
        found, size = [], struct.calcsize("iIII")
        try:
            data = os.read(self._fd, 1 << 16) if self._fd >= 0 else b""
        except BlockingIOError:
            data = b""
        while data:
            watch, mask, _, length = struct.unpack_from("iIII", data)
            name = data[size : size + length].rstrip(b"\0").decode(errors="replace")
            if not mask & IN_ISDIR and name:
                found.append(str(self._names[watch] / name))
            data = data[size + length :]
        return found


def _within(path, folder):
    return Path(path).is_relative_to(folder) or Path(path).resolve().is_relative_to(folder.resolve())


def _of_library(path):
    place = Path(path).resolve()
    return path.startswith(SYSTEM) or any(place.is_relative_to(library) for library in LIBRARIES)
