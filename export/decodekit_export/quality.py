"""
Quality: what rounding the weights did to a model, in numbers for a person to weigh.

Both models read the same text in windows; at every place their distributions are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from decodekit.ops import log_softmax
from decodekit_export.cache import CacheShape
from decodekit_export.errors import ExportError
from decodekit_export.reference import Reference
from decodekit_export.rows import ROWS, Feeds, no_feeds, open_session

WINDOW = 256  # tokens
MOST = 4096  # tokens of a text that are read


@dataclass(frozen=True, slots=True)
class Text:
    """What is read: windows of ids, and where they come from."""

    windows: tuple[tuple[int, ...], ...]
    source: str

    @staticmethod
    def of(ids: Sequence[int], source: str, context_length: int) -> Text:
        """Ids cut into windows; the rest that is shorter than two tokens is dropped."""
        size = min(WINDOW, context_length)
        cut = [tuple(ids[start : start + size]) for start in range(0, min(len(ids), MOST), size)]
        windows = tuple(window for window in cut if len(window) > 1)
        if not windows:
            raise ExportError(f"{source}: fewer than two tokens; give a longer text")
        return Text(windows, source)


@dataclass(frozen=True, slots=True)
class Quality:
    """
    perplexity   of the text, by the model before rounding and by the bundle
    divergence   mean Kullback-Leibler divergence of the bundle from the model, nats a token
    agreement    share of places where both find the same token most probable
    """

    text: str
    tokens: int
    perplexity: tuple[float, float]
    divergence: float
    agreement: float

    def fields(self) -> dict[str, Any]:
        """For a manifest, to four digits."""
        before, after = (float(f"{p:.4g}") for p in self.perplexity)
        return {
            "text": self.text,
            "tokens": self.tokens,
            "perplexity": {"float32": before, "bundle": after},
            "divergence": float(f"{self.divergence:.4g}"),
            "agreement": float(f"{self.agreement:.4g}"),
        }


def read_text(path: Path | None) -> tuple[str, str]:
    """A text and what it is called: the one in a file, or a page of prose that comes with the exporter."""
    if path is None:
        return files("decodekit_export").joinpath("sample.txt").read_text(encoding="utf-8"), "sample"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ExportError(f"--text {path}: cannot be read ({exc})") from exc
    return text, f"{path.name}, sha256 {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def compare(
    reference: Reference, text: Text, path: Path, kind: str, shape: CacheShape, feeds: Feeds = no_feeds
) -> Quality:
    """What the model before rounding and the graph in `path` say at every place of every window."""
    session = open_session(path, shape.dtype)
    losses, divergence, same = np.zeros(2), 0.0, 0
    for window in text.windows:
        said = log_softmax(reference(window)[0])
        now = log_softmax(ROWS[kind](session, shape, 1, len(window), feeds).feed([window])[0])
        next_ids = np.asarray(window[1:])[:, None]
        losses -= [np.take_along_axis(p[:-1], next_ids, -1).sum(dtype=np.float64) for p in (said, now)]
        divergence += float((np.exp(said[:-1]) * (said[:-1] - now[:-1])).sum(dtype=np.float64))
        same += int((said[:-1].argmax(-1) == now[:-1].argmax(-1)).sum())
    tokens = sum(len(window) - 1 for window in text.windows)
    before_perplexity, after_perplexity = np.exp(losses / tokens)
    return Quality(
        text=text.source,
        tokens=tokens,
        perplexity=(float(before_perplexity), float(after_perplexity)),
        divergence=divergence / tokens,
        agreement=same / tokens,
    )
