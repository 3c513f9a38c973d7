"""The doctor: what this environment offers a decoder, and what is in the way."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decodekit.devices import CUDA
from decodekit.errors import DeviceError
from decodekit.gpu import cards
from decodekit.graph_sampling.reducer import can_trace
from decodekit.origin import version
from decodekit.plugins import Plugins

RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True, slots=True)
class Report:
    """Facts by name, and problems as sentences with the way out."""

    facts: Mapping[str, Any]
    problems: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        return {"facts": dict(self.facts), "problems": list(self.problems)}


def examine(plugins: Plugins) -> Report:
    """Look at versions, providers, telemetry and plugins."""
    problems = [f"plugin {p.distribution} is {p.state}" for p in plugins.broken]
    wheels = [name for name in RUNTIMES if version(name)]
    if len(wheels) == 2:
        problems.append(
            "both onnxruntime and onnxruntime-gpu are installed and overwrite each other; "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'decodekit[cpu]' "
            "or 'decodekit[gpu]'"
        )
    facts: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "decodekit": version("decodekit"),
        "numpy": version("numpy"),
        "tokenizers": version("tokenizers"),
    }
    try:
        from decodekit.onnx_session import load_libraries, versions

        facts |= versions()
        found, why = cards()
        facts["cards"] = [str(card) for card in found] or why
        problems += cuda_problems(facts["providers"], bool(found), why, load_libraries)
    except DeviceError as exc:
        problems.append(str(exc))
    facts["graphs of chains"] = (
        f"ndonnx {version('ndonnx')}" if can_trace() else "pip install 'decodekit[graph]'"
    )
    disabled = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    facts["onnxruntime telemetry"] = (
        "off" if disabled else "on, because ORT_DISABLE_TELEMETRY is set to something else"
    )
    loaded = [p.distribution for p in plugins.installed if p.state == "ok"]
    facts["plugins"] = ", ".join(loaded) or "none"
    return Report(facts, problems)


def cuda_problems(
    offered: Sequence[str], card: bool, why: str, load_libraries: Callable[[], str]
) -> list[str]:
    """What is between a card and CUDA, with the command that mends it.

    offered  execution providers of onnxruntime
    card     whether the driver knows of one; else `why` not
    load_libraries  loads those of CUDA and cuDNN, and tells what failed
    """
    if CUDA in offered and not card:
        return [f"onnxruntime offers CUDA but {why}; install the driver, or use device='cpu'"]
    if card and CUDA not in offered:
        return [
            "there is a card, but this onnxruntime has no CUDA provider; pip uninstall -y onnxruntime "
            "onnxruntime-gpu, then pip install 'decodekit[gpu]', or use device='cpu'"
        ]
    if CUDA in offered and (said := load_libraries()):
        return [
            f"CUDA or cuDNN cannot be loaded ({' '.join(said.split())}); "
            "pip install 'onnxruntime-gpu[cuda,cudnn]', or install both and name them in LD_LIBRARY_PATH"
        ]
    return []
