"""Devices: what a graph may run on, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from decodekit.errors import DeviceError

CUDA = "CUDAExecutionProvider"


def chosen(device: str, offered: Sequence[str]) -> str:
    """The device that a name means: "cpu", or "cuda:0" and so on.

    device   "cpu", "cuda", "cuda:1", or "auto": CUDA where it is offered
    offered  the execution providers of this onnxruntime

    DeviceError where it is none, or CUDA is asked for and not offered. Nothing else is taken instead.
    """
    if device == "auto":
        return "cuda:0" if CUDA in offered else "cpu"
    if device == "cpu":
        return device
    if not isinstance(device, str) or not (found := re.fullmatch(r"cuda(?::(\d{1,2}))?", device)):
        raise DeviceError(f"device must be 'auto', 'cpu', 'cuda' or 'cuda:1', got {device!r}")
    if CUDA not in offered:
        raise DeviceError(
            f"device {device!r}: this onnxruntime has no CUDA provider; pip uninstall onnxruntime, then "
            "pip install 'decodekit[gpu]', or use device='cpu'; `decodekit doctor` tells more"
        )
    return f"cuda:{found[1] or 0}"
