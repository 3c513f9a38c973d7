"""
Other exporters: programs of their own environments that draw a graph from a checkpoint.

An engine gets a copy of the checkpoint that holds safetensors, the reduced configuration and the
tokenizer, and runs apart from this process, without the network. What it writes is believed as
little as any folder from elsewhere: it is described, checked and held against the model here.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from decodekit_export.errors import EngineError

_ASK = """
import importlib.metadata, importlib.util, json
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False
def version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
print(json.dumps([there({module!r}), there("kernels"), {{n: version(n) for n in {packages!r}}}]))
"""


@dataclass(frozen=True, slots=True)
class Engine:
    """An exporter, and how it is run.

    module    what `python -m` runs
    variable  of the environment; names the Python that has the module, by default the one that runs this
    packages  whose versions a manifest names
    install   what pip installs in an environment of the engine's own
    words     of the command line, for a checkpoint folder and a new folder
    """

    name: str
    module: str
    variable: str
    packages: tuple[str, ...]
    install: str
    words: Callable[[Path, Path], list[str]]

    @property
    def python(self) -> str:
        return os.environ.get(self.variable) or sys.executable

    def versions(self) -> dict[str, str]:
        """Of the engine's packages; EngineError if it is not installed, or not safe to run."""
        code = _ASK.format(module=self.module, packages=self.packages)
        try:
            answer = subprocess.run(
                [self.python, "-I", "-c", code], capture_output=True, text=True, check=True, env=_apart()
            )
            found, kernels, versions = json.loads(answer.stdout)
        except (OSError, subprocess.CalledProcessError, ValueError) as exc:
            raise EngineError(f"--engine {self.name}: {self.python} is no Python that runs ({exc})") from exc
        if not found:
            raise EngineError(
                f"--engine {self.name}: {self.module} is not installed for {self.python}; python -m venv "
                f".venv-{self.name} && .venv-{self.name}/bin/pip install {self.install}, "
                f"then set {self.variable}=.venv-{self.name}/bin/python"
            )
        if kernels:
            raise EngineError(
                f"--engine {self.name}: {self.python} has the package kernels, which lets a checkpoint "
                f"run code in transformers {versions['transformers']} (CVE-2026-4372); uninstall it there"
            )
        return {name: version for name, version in versions.items() if version is not None}

    def run(self, checkpoint: Path, out: Path) -> None:
        """Let the engine write a folder; EngineError with its last words if it fails."""
        # -I: neither the current folder nor PYTHONPATH has a say in what is imported
        words = [self.python, "-I", "-m", self.module, *self.words(checkpoint, out)]
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", env=_apart()
        )
        if done.returncode or not (out / "model.onnx").is_file():
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            last = re.sub(r"\s+", " ", said[-1]) if said else "it said nothing"
            raise EngineError(f"--engine {self.name}: failed with status {done.returncode}: {last[:300]}")


ENGINES: Mapping[str, Engine] = {
    "optimum": Engine(
        "optimum",
        "optimum.exporters.onnx",
        "DECODEKIT_OPTIMUM_PYTHON",
        ("optimum", "optimum-onnx", "transformers", "torch", "onnx", "onnxruntime"),
        "optimum-onnx 'transformers<4.58' onnxruntime",
        lambda checkpoint, out: [
            *("--model", str(checkpoint), "--task", "text-generation-with-past"),
            *("--framework", "pt", "--library", "transformers", str(out)),
        ],
    ),
    "genai": Engine(
        "genai",
        "onnxruntime_genai.models.builder",
        "DECODEKIT_GENAI_PYTHON",
        ("onnxruntime-genai", "transformers", "torch", "onnx-ir", "onnxruntime"),
        "onnxruntime-genai onnxruntime torch transformers onnx-ir",
        lambda checkpoint, out: [
            *("-i", str(checkpoint), "-o", str(out), "-p", "fp32", "-e", "cpu", "-c", str(out) + ".cache")
        ],
    ),
}


def _apart() -> dict[str, str]:
    """The environment, in which nothing is fetched and nothing is reported."""
    quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**os.environ, **quiet, "ORT_DISABLE_TELEMETRY": "1", "CUDA_VISIBLE_DEVICES": ""}
