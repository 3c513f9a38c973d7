"""The cluster: joined, or started on this machine. The only place where Ray is imported first."""

from __future__ import annotations

import os

from decodekit.errors import DeviceError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry of ours, nor through us
import ray

__all__ = ["connect", "line", "ray"]


def connect(address: str, cpus: float) -> None:
    """Join a cluster, unless this process is in one.

    address  host:port, "auto", or "local" to start one here
    cpus     of the one that is started here
    """
    if ray.is_initialized():
        return
    try:
        if address == "local":
            ray.init(
                address="local", num_cpus=max(1, round(cpus)), include_dashboard=False, log_to_driver=False
            )
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as exc:
        raise DeviceError(
            f"--ray: no cluster at {address!r} ({line(exc)}); give host:port, auto or local"
        ) from exc


def line(exc: BaseException) -> str:
    """What an exception of Ray says, on one line."""
    return " ".join(str(exc).split())[:300]
