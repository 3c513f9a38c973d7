"""
Every error that exporter and trainer raise on purpose.

* ExportError        the model cannot become a bundle                     (2)
  * CheckpointError  the checkpoint folder is incomplete or not safe      (2)
  * FetchError       the hub cannot be reached or does not give it        (3)
  * EngineError      the asked-for exporter is not there or failed        (3)
  * ParityError      the graph does not compute what the model computes   (2)
* DataError          rows are faulty, see `faults`                        (2)
* TrainingError      the run cannot go on                                 (4)
  * ResumeError      the run that is there cannot be gone on with         (2)
  * BusyError        another run writes there                             (3)
  * SpaceError       the disk is full                                     (3)
  * Interrupted      a signal came, and all is saved                      (128 + signal)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from decodekit.errors import DecodekitError

if TYPE_CHECKING:
    from decodekit_export.parity import Parity


def first_line(exc: BaseException) -> str:
    """Of what was raised; its kind where it says nothing."""
    return (str(exc).strip() or type(exc).__name__).splitlines()[0]


class ExportError(DecodekitError):
    """The model cannot become a bundle."""

    code = "E_EXPORT"
    exit_code = 2


class CheckpointError(ExportError):
    """The checkpoint folder is incomplete or not safe to read."""

    code = "E_CHECKPOINT"


class FetchError(ExportError):
    """The hub cannot be reached, or does not give what was asked for."""

    code = "E_FETCH"
    exit_code = 3


class EngineError(ExportError):
    """The asked-for exporter is not installed, not safe to run, or failed."""

    code = "E_EXPORT_ENGINE"
    exit_code = 3


class ParityError(ExportError):
    """The graph does not compute what the model computes; `parity` is what was measured."""

    code = "E_PARITY"

    def __init__(self, message: str, parity: Parity) -> None:
        super().__init__(message)
        self.parity = parity


class TrainingError(DecodekitError):
    """The run cannot go on; its last checkpoint is kept."""

    code = "E_TRAINING"


class ResumeError(TrainingError):
    """The run that is there cannot be gone on with."""

    code = "E_RESUME"
    exit_code = 2


class BusyError(TrainingError):
    """Another run writes to the same folder."""

    code = "E_BUSY"
    exit_code = 3


class SpaceError(TrainingError):
    """A checkpoint does not fit on the disk."""

    code = "E_SPACE"
    exit_code = 3
