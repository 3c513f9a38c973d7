"""
The checkpoints of a run: when it stops, it goes on from the newest as if it had not stopped.

What a run began with is in each: settings, data, base, versions. Where one of them is another
now, the weights would be those of no run that anyone asked for, so going on is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import transformers

from decodekit_export import snapshot
from decodekit_export.errors import ResumeError
from decodekit_export.notes import Notes
from decodekit_export.run_folder import RunFolder
from decodekit_export.training_state import Tensors, Values, capture

TRAINER = "trainer_state.json"  # where transformers looks for it
STATE = "state.json"
NOTES = "notes.json"
BEGAN = "began.json"


class Checkpoints:
    """Writes and reads the checkpoints in `folder`, of a run that `began` with these settings and data.

    keep  how many of the newest stay
    """

    def __init__(self, folder: RunFolder, began: Mapping[str, Any], keep: int) -> None:
        self.folder = folder
        self._began, self._keep = began, keep

    def save(self, trainer: transformers.Trainer, notes: Notes, generators: Values) -> None:
        """A checkpoint of now, unless there is one. Every process must call it; the first one writes."""
        tensors, state = capture(trainer, generators)
        step = trainer.state.global_step
        if trainer.is_world_process_zero() and step not in self.folder.steps():
            documents = {
                TRAINER: asdict(trainer.state),
                STATE: state,
                NOTES: notes.to_json(),
                BEGAN: self._began,
            }
            place = self.folder.place(step)
            snapshot.write(place, tensors, documents)
            snapshot.read(place)  # before an older one goes
            self.folder.tidy(self._keep, notes.best_step)
        trainer.accelerator.wait_for_everyone()

    def newest(self, *, force: bool) -> Checkpoint | None:
        """The newest one, or None. Raises ResumeError with all that is not as at the beginning."""
        steps = self.folder.steps()
        if not steps:
            return None
        found = Checkpoint(self.folder, steps[-1])
        differing = differences(found.documents[BEGAN], self._began)
        if differing and not force:
            raise ResumeError(
                f"{found.place}: cannot be gone on with, since {'; '.join(differing)}; "
                "give what it began with, or accept the difference with --force-resume"
            )
        found.notes.forced += differing
        found.notes.resumed.append(found.step)
        return found


class Checkpoint:
    """One checkpoint, read and checked."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        self.step = step
        self.place = folder.place(step)
        self.tensors: dict[str, Tensors]
        self.tensors, self.documents = snapshot.read(self.place)
        self.notes = Notes(**self.documents[NOTES])


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is another now, each as "key was A and is B"."""
    keys = [*before, *(key for key in now if key not in before)]
    return [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in keys
        if before.get(key) != now.get(key)
    ]
