"""
Every error the exporter raises on purpose.

* ExportError        the model cannot become a bundle                     (2)
  * CheckpointError  the checkpoint folder is incomplete or not safe      (2)
  * ParityError      the graph does not compute what the model computes   (2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from decodekit.errors import DecodekitError

if TYPE_CHECKING:
    from decodekit_export.parity import Parity


class ExportError(DecodekitError):
    """The model cannot become a bundle."""

    code = "E_EXPORT"
    exit_code = 2


class CheckpointError(ExportError):
    """The checkpoint folder is incomplete or not safe to read."""

    code = "E_CHECKPOINT"


class ParityError(ExportError):
    """The graph does not compute what the model computes; `parity` is what was measured."""

    code = "E_PARITY"

    def __init__(self, message: str, parity: Parity) -> None:
        super().__init__(message)
        self.parity = parity
