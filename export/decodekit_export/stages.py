"""What a person sees while a checkpoint becomes a bundle: stages, warnings, the parity figures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from decodekit.bundle import Bundle
    from decodekit_export.checkpoint_source import Source

LINES = 10  # of ties or failures that are shown; a manifest has all
STAGES = {
    "load": "reading the checkpoint",
    "round": "rounding the weights",
    "trace": "drawing the graph",
    "engine": "waiting for the other exporter's graph",
    "check": "comparing it with the model",
    "read": "reading a text beside the model before rounding",
    "write": "sealing the bundle",
}


class Stages:
    """Writes to standard error, so that standard output is the command's answer."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("")
        self._stage, self._began = "", 0.0

    def source(self, source: Source) -> None:
        """Where a checkpoint from elsewhere came from; a folder speaks for itself."""
        if source.provenance:
            self._console.print(f"{escape(str(source))}, in {escape(str(source.path))}")

    @contextmanager
    def running(self) -> Iterator[None]:
        """A line per stage and per warning, until the block ends."""
        with self._status, warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = self._warn  # type: ignore[assignment]
            yield
            self._end_stage()

    def stage(self, name: str) -> None:
        """A stage begins, and so the one before it has ended."""
        self._end_stage()
        self._stage, self._began = name, time.monotonic()
        self._status.update(STAGES[name])

    def parity(self, parity: Mapping[str, Any]) -> None:
        """The figures of the gate, as a manifest has them."""
        table = Table("differs from PyTorch", "by at most", "allowed", box=None, header_style="dim")
        for what in ("logits", "cache"):
            bar = parity["bars"][what]
            for road, difference in parity[what].items():
                colour = "green" if difference <= bar else "red"
                table.add_row(f"{what}, {road}", f"[{colour}]{difference:.1e}[/{colour}]", f"{bar:.1e}")
        self._console.print(table)
        if parity["rounding"]:
            own = parity["rounding"]
            self._console.print(
                f"PyTorch's own rounding, twice which is allowed: "
                f"logits {own['logits']:.1e}, cache {own['cache']:.1e}"
            )
        self._console.print(
            f"greedy: {parity['tokens']:,} tokens after {parity['prompts']} prompts, "
            f"{len(parity['near_ties'])} near ties; largest logit {parity['scales']['logits']:.3g}; "
            f"{parity['provider']}, onnxruntime {parity['onnxruntime']}"
        )
        for line in (*parity["near_ties"][:LINES], *parity["failures"][:LINES]):
            self._console.print(f"  {escape(line)}")
        if parity["window"] is False:
            self._console.print("the attention window is longer than the check reached, so it is not covered")

    def quality(self, quality: Mapping[str, Any]) -> None:
        """What rounding cost, as a manifest has it."""
        before, after = quality["perplexity"].values()
        self._console.print(
            f"after rounding, on {quality['tokens']:,} tokens ({escape(quality['text'])}): "
            f"perplexity {before:,.4g} -> {after:,.4g}, divergence {quality['divergence']:.3g} nats a token, "
            f"same best token at {quality['agreement']:.1%}"
        )

    def adapters(self, adapters: Mapping[str, Any]) -> None:
        """How near the graph is to the model under each adapter."""
        for name, adapter in adapters.items():
            furthest = max(adapter["parity"]["logits"].values())
            self._console.print(
                f"adapter {escape(name)}: rank {adapter['rank']}, {adapter['parameters']:,} parameters, "
                f"logits within {furthest:.1e} of PyTorch"
            )

    def written(self, bundle: Bundle) -> None:
        """Where the bundle is, and how large."""
        size = sum(entry["size"] for entry in bundle.manifest["files"].values())
        self._console.print(f"{escape(str(bundle.path))}: {size:,} bytes, sha256 {bundle.sha256[:16]}")

    def _end_stage(self) -> None:
        if self._stage:
            seconds = time.monotonic() - self._began
            self._console.print(f"[dim]{self._stage:6}[/dim] {STAGES[self._stage]}, {seconds:.1f} s")
        self._stage = ""

    def _warn(self, message: Warning | str, *_: Any) -> None:
        self._console.print(f"[yellow]warning:[/yellow] {escape(str(message))}")
