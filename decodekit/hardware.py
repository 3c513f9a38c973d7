"""What computes: the kind of processor, or the name of the graphics card."""

from __future__ import annotations

import platform
from pathlib import Path

CARDS = Path("/proc/driver/nvidia/gpus")


def describe(provider: str) -> str:
    """The hardware behind an execution provider, such as "x86_64" or "NVIDIA H100"; or "not said"."""
    if provider == "CPUExecutionProvider":
        return platform.machine()
    try:
        said = min(CARDS.glob("*/information")).read_text(encoding="utf-8")
        models = [line.partition(":")[2].strip() for line in said.splitlines() if line.startswith("Model:")]
        return models[0]
    except (OSError, ValueError, IndexError):
        return "not said"
