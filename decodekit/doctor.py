"""The doctor: what this environment offers a decoder, and what is in the way."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from decodekit.errors import DeviceError
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
    wheels = [name for name in RUNTIMES if _version(name)]
    if len(wheels) == 2:
        problems.append(
            "both onnxruntime and onnxruntime-gpu are installed and overwrite each other; "
            "pip uninstall both, then pip install 'decodekit[cpu]' or 'decodekit[gpu]'"
        )
    facts: dict[str, Any] = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "decodekit": _version("decodekit"),
        "numpy": _version("numpy"),
        "tokenizers": _version("tokenizers"),
    }
    try:
        from decodekit.onnx_session import versions

        facts |= versions()
    except DeviceError as exc:
        problems.append(str(exc))
    disabled = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    facts["onnxruntime telemetry"] = (
        "off" if disabled else "on, because ORT_DISABLE_TELEMETRY is set to something else"
    )
    loaded = [p.distribution for p in plugins.installed if p.state == "ok"]
    facts["plugins"] = ", ".join(loaded) or "none"
    return Report(facts, problems)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
