"""No network: while a checkpoint is read, the libraries that could fetch something may not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import transformers
from huggingface_hub import constants


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Requests of the hub's library are errors, in this process and those it starts; no bar is drawn."""
    before, was = os.environ.get("HF_HUB_OFFLINE"), constants.HF_HUB_OFFLINE
    os.environ["HF_HUB_OFFLINE"], constants.HF_HUB_OFFLINE = "1", True
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was
        if before is None:
            os.environ.pop("HF_HUB_OFFLINE", None)
        else:
            os.environ["HF_HUB_OFFLINE"] = before
        if bars:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]
