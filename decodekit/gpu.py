"""Graphics cards, as the driver's own tool tells of them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

SECONDS = 10.0  # that the driver may take to answer
FIELDS = "name,driver_version,memory.total,memory.free"


@dataclass(frozen=True, slots=True)
class Card:
    """One card; memory in MiB."""

    name: str
    driver: str
    total: int
    free: int

    def __str__(self) -> str:
        return f"{self.name}, {self.free:,} of {self.total:,} MiB free, driver {self.driver}"


def cards() -> tuple[list[Card], str]:
    """The cards there are; or none, and why."""
    if not (tool := shutil.which("nvidia-smi")):
        return [], "no NVIDIA driver: nvidia-smi is not there"
    asked = [tool, f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return [], f"the NVIDIA driver does not answer ({exc})"
    if done.returncode:
        said = (done.stdout + done.stderr).strip().partition("\n")[0]
        return [], f"the NVIDIA driver fails: {said or f'status {done.returncode}'}"
    return read_cards(done.stdout)


def read_cards(said: str) -> tuple[list[Card], str]:
    """From what nvidia-smi says of `FIELDS`, a line for each card."""
    try:
        lines = [line.split(", ") for line in said.strip().splitlines()]
        found = [Card(name, driver, int(total), int(free)) for name, driver, total, free in lines]
    except ValueError:
        return [], f"the NVIDIA driver says what was not expected: {said.strip()!r}"
    return found, "" if found else "the NVIDIA driver knows of no card"
