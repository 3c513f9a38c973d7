"""
A decoder's graph in a session, and what its inputs and outputs are called.

Graph inputs   input_ids int64 [B, T], position_ids int64 [B, T], attention_mask int64 [B, P + T],
               lengths int32 [B], total_length int32 [], logit_positions int64 [K],
               past_key_values.<layer>.key and .value; an unused one may be absent; what adapters
               take, see `adapters`
Graph outputs  logits [B, K, V], or [B, T, V] without logit_positions; present.<layer>.key and .value
"""

from __future__ import annotations

import numpy as np

from decodekit.adapters import Adapters
from decodekit.bundle import Bundle
from decodekit.errors import BundleError, ContextError
from decodekit.onnx_session import Session


class GraphModel:
    """What models of both cache kinds share."""

    def __init__(self, bundle: Bundle, session: Session) -> None:
        self.vocabulary = bundle.vocabulary
        self.context_length = bundle.context_length
        self.spec = bundle.cache
        self.session = session
        self.past = [f"past_key_values.{n}.{s}" for n in range(self.spec.layers) for s in ("key", "value")]
        self.present = [f"present.{n}.{s}" for n in range(self.spec.layers) for s in ("key", "value")]
        self.positions = bundle.positions
        self.logits_dtype = np.float16 if "float16" in session.outputs.get("logits", "") else np.float32
        self.adapters = Adapters(bundle, session)
        _check_graph(bundle, session, {*self.past, *self.adapters.inputs}, self.present)

    @property
    def provider(self) -> str:
        """The execution provider that runs the graph."""
        return self.session.provider

    @property
    def bytes_per_token(self) -> int:
        """Of the cache, in one row."""
        return self.spec.bytes_per_token

    def admit(self, tokens: int, length: int) -> None:
        """Raise ContextError if that many tokens do not fit behind `length` others."""
        if length + tokens > self.context_length:
            raise ContextError(
                f"{length} tokens and {tokens} more exceed the context window of {self.context_length}"
            )


def _check_graph(bundle: Bundle, session: Session, own: set[str], present: list[str]) -> None:
    known = {"input_ids", "position_ids", "attention_mask", "lengths", "total_length", "logit_positions"}
    inputs, outputs = set(session.inputs), set(session.outputs)
    for what, names in (
        ("inputs that are missing", {"input_ids", *own} - inputs),
        ("inputs that nobody feeds", inputs - known - own),
        ("outputs that are missing", {"logits", *present} - outputs),
    ):
        if names:
            raise BundleError(
                f"{bundle.graph}: {what}: {', '.join(sorted(names))}; the manifest is of another graph"
            )
