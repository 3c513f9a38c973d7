"""The loss of a run as a picture, drawn by matplotlib where it is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

FILES = ("loss.png", "loss.svg")

Curve = Sequence[tuple[int, float]]  # (step, nats per trained token)


def can_plot() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def plot(folder: Path, losses: Curve, evaluated: Curve, *, best: int | None) -> None:
    """Write loss.png and loss.svg: the loss of every step, that of the validation file, and its best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*losses, strict=True), color="0.65", linewidth=1, label="training")
    if evaluated:
        axes.plot(*zip(*evaluated, strict=True), "o-", color="tab:blue", markersize=3, label="validation")
    if best is not None:
        axes.axvline(best, color="tab:blue", linewidth=0.8, linestyle=":", label=f"kept: step {best}")
    axes.set_xlabel("step")
    axes.set_ylabel("nats per trained token")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    for name in FILES:
        figure.savefig(folder / name, dpi=150, metadata={"Date": None} if name.endswith("svg") else None)
