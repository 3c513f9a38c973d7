"""The servers that `peers.py` measures: how each is started and asked for the best token always."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from engines import ENVIRONMENT, MODELS, ROOT, Failure

LOG = MODELS / "servers.log"  # what they print
PATIENCE = 300  # seconds for a server to be there
THREADS = "2"
SMOL = MODELS / "smol"


@dataclass(frozen=True)
class Peer:
    """A server.

    words     behind the interpreter's name
    model     its name in a request
    greedy    fields of a request
    packages  whose versions matter
    """

    words: Sequence[str | Path]
    model: str
    greedy: Mapping[str, Any]
    packages: Sequence[str]

    @property
    def versions(self) -> dict[str, str]:
        return {name: metadata.version(name) for name in self.packages}


OWN = "decodekit"
LLAMA = "llama-cpp-python"
TRANSFORMERS = "transformers serve"
BATCHING = "transformers serve, batching"
WORDS: Sequence[str | Path] = [
    "-m",
    "transformers.cli.transformers",
    "serve",
    SMOL / "checkpoint",
    "--device",
    "cpu",
]
PEERS = {
    OWN: Peer(
        ["-m", "decodekit.cli", "serve", f"m={SMOL / 'bundle'}", "--threads", THREADS, "--quiet"],
        "m",
        {"decodekit": {"processors": []}},
        ["decodekit", "decodekit-server", "onnxruntime", "uvicorn"],
    ),
    LLAMA: Peer(
        [
            *("-m", "llama_cpp.server", "--model", SMOL / "gguf" / "f32.gguf", "--n_ctx", "4096"),
            *("--n_threads", THREADS, "--n_threads_batch", THREADS, "--interrupt_requests", "false"),
            *("--hf_pretrained_model_name_or_path", SMOL / "checkpoint"),
        ],
        "m",
        {"temperature": 0.0},
        ["llama-cpp-python"],
    ),
    TRANSFORMERS: Peer(WORDS, str(SMOL / "checkpoint"), {"temperature": 0.0}, ["transformers", "torch"]),
    BATCHING: Peer(
        [*WORDS, "--continuous-batching", "--cb-num-blocks", "64", "--cb-block-size", "128"],
        str(SMOL / "checkpoint"),
        {"temperature": 0.0},
        ["transformers", "torch"],
    ),
}


@contextmanager
def running(peer: Peer) -> Iterator[int]:
    """The server in a process of its own, and its port, once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, *peer.words, "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": THREADS}
    with LOG.open("a") as log:
        run = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
    try:
        end = time.monotonic() + PATIENCE
        while not _listens(port):
            if run.poll() is not None or time.monotonic() > end:
                raise Failure(f"it did not start; see {LOG.relative_to(ROOT)}")
            time.sleep(0.2)
        yield port
    finally:
        run.terminate()
        try:
            run.wait(20)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
