"""
Bundles with random weights in the shapes of real models, as the check of a device needs them.

    python -m devices.models SHAPE DTYPE FOLDER

Each is exported, through the parity gate, in a process of its own, which takes torch's memory with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

PROMPTS = 4  # of the gate
LIMIT = 3600  # seconds an export may take
WRONG = 4  # exit status of an export that does not agree with PyTorch
DTYPES = ("float32", "float16", "bfloat16", "int4", "int8")


class AbsentError(Exception):
    """Something is not there, or not to be had here; the message says what and why."""


def checkpoint_of(shape: str, folder: Path) -> Path:
    """The checkpoint of a shape, written where it is not there yet."""
    place = folder / shape / "checkpoint"
    if not place.exists():
        _made("checkpoint", shape, "-", folder, place)
    return place


def bundle_of(shape: str, dtype: str, folder: Path) -> Path:
    """The bundle of a shape in "float16" and so on, exported where it is not there yet."""
    place = folder / shape / dtype
    if not place.exists():
        checkpoint_of(shape, folder)
        _made("bundle", shape, dtype, folder, place)
    return place


def environment() -> dict[str, str]:
    """For a process that imports what this one does."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _made(what: str, shape: str, dtype: str, folder: Path, place: Path) -> None:
    if find_spec("decodekit_export") is None:
        raise AbsentError("decodekit-export is not installed, which makes the models; pip install ./export")
    command = [sys.executable, "-m", "devices.models", what, shape, dtype, str(folder)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, check=False, env=environment()
    )
    if done.returncode == WRONG:
        raise RuntimeError(f"{what} {shape} {dtype}: {done.stderr.strip()}")
    if done.returncode or not place.exists():
        lines = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise AbsentError(f"{what} {shape} {dtype}: {lines[-1]}")


def main() -> None:
    """In the process of its own."""
    what, shape, dtype, folder = sys.argv[1:]
    checkpoint = Path(folder) / shape / "checkpoint"
    if what == "checkpoint":
        sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
        from checkpoint import SHAPES, write

        part = checkpoint.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        write(SHAPES[shape], part)
        part.rename(checkpoint)
        return
    from decodekit_export.bundle import export_bundle
    from decodekit_export.errors import ParityError
    from decodekit_export.precision import Precision
    from decodekit_export.quantization import Quantization

    how = (
        {"quantization": Quantization(dtype)} if dtype.startswith("int") else {"precision": Precision(dtype)}
    )
    try:
        export_bundle(
            checkpoint, Path(folder) / shape / dtype, name=f"{shape}-{dtype}", prompts=PROMPTS, **how
        )
    except ParityError as exc:
        print(exc, file=sys.stderr)
        raise SystemExit(WRONG) from None


if __name__ == "__main__":
    main()
