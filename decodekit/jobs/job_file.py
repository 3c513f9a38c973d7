"""
The job file, beside the results: what the job was begun with, and how far it is for sure.

The first part is compared when a job goes on, so that nothing is mixed. The second saves
reading the results again: where it is old, what came later is read; where it is wrong, all is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from decodekit import strict_json
from decodekit.errors import InputError, JobError
from decodekit.jobs.row import BEGIN, Mark
from decodekit.jobs.storage import write_whole

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a job is; all of it is on the disk.

    bytes    of the results
    tail     digest of the last of them, see `Journal.tail`
    low      rows below this number are done
    ahead    rows above it that are done too
    mark     where row `low` begins in the input
    summary  of the results, see `Summary`
    done     whether that is all
    """

    bytes: int = 0
    tail: str = ""
    low: int = 0
    ahead: tuple[int, ...] = ()
    mark: Mark = BEGIN
    summary: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job.

    begun_with  what may not change, by name: "input", "bundle", "settings", "software"
    seed        of which the rows' seeds are made
    rows        of the input
    checkpoint  how far it is
    """

    begun_with: Mapping[str, Mapping[str, Any]]
    seed: int
    rows: int
    checkpoint: Checkpoint = Checkpoint()

    def write(self, path: Path) -> None:
        """Put it in place, synced."""
        data = {"format": FORMAT, **asdict(self)}
        write_whole(path, json.dumps(data, ensure_ascii=False).encode() + b"\n")

    def check(self, now: Mapping[str, Mapping[str, Any]], path: Path, *, but: str = "") -> None:
        """JobError, which names them, for what is not as it was; `but` may differ."""
        changes = [*_changes({**self.begun_with, but: None}, {**now, but: None})]
        if changes:
            raise JobError(
                f"{path}: the job was begun with something else: {'; '.join(changes)}; "
                "put that back, or write to another file"
            )


def path_of(results: Path) -> Path:
    """Where the job of those results is kept."""
    return results.with_name(f"{results.name}.job")


def read(path: Path) -> JobFile | None:
    """The job in a file; None where there is no file."""
    try:
        data = strict_json.loads(path.read_text(encoding="utf-8"))
        if data.pop("format") != FORMAT:
            raise ValueError("it is of another version of decodekit")
        at = data.pop("checkpoint")
        mark, ahead = Mark(**at.pop("mark")), tuple(at.pop("ahead"))
        return JobFile(**data, checkpoint=Checkpoint(**at, mark=mark, ahead=ahead))
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise InputError(f"{path}: cannot be read ({exc.strerror or exc}); check the path") from exc
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise JobError(f"{path}: no job of decodekit ({exc}); write to another file") from exc


def _changes(then: Mapping[str, Any], now: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for name in dict.fromkeys([*then, *now]):
        old, new = then.get(name), now.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _changes(old, new, f"{where}{name} ")
        elif old != new:
            yield f"{where}{name} was {_short(old)} and is {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
