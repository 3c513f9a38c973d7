"""Worker processes as the driver sees them: start one, ask it, end it."""

import json
import os
import select
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "build" / "bench"
LOG = MODELS / "workers.log"  # what engines print
PATIENCE = 900  # seconds an answer may take
ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}

Answer = Mapping[str, Any]


class Failure(Exception):
    """Why there is no figure."""


class Engine:
    """One engine with one model, in a process of its own."""

    def __init__(self, name: str, model: str, options: Mapping[str, Any]) -> None:
        if not (MODELS / model).exists():
            raise Failure(f"no model {model}; make bench-models")
        environment = ".venv-optimum" if name == "optimum" else ".venv-bench"
        program = Path(__file__).parent / "workers" / f"{name}_worker.py"
        with LOG.open("a") as log:
            self._process = subprocess.Popen(
                [ROOT / environment / "bin" / "python", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | ENVIRONMENT,
            )
        try:
            self.ask("load", folder=str(MODELS / model), **options)
            self.versions = dict(self.ask("versions"))
        except Failure:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> Answer:
        """The answer to one command; raises Failure if there is none."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead, which the missing answer tells
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.close()
            how = f"ended with status {self._process.returncode}" if ready else f"silent for {PATIENCE} s"
            raise Failure(f"{do}: the worker {how}; see {LOG.relative_to(ROOT)}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(f"{do}: {answer['error']}".replace(f"{ROOT}/", ""))
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process, by force where it does not end by itself."""
        assert self._process.stdin
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
