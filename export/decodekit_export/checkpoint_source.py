"""
Where a checkpoint comes from: a folder of this machine, or a repository of the hub.

A path that exists is a folder, whatever it looks like. Only what looks like `org/name`, and was
typed so, is asked for on the hub.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decodekit_export.errors import CheckpointError

REPOSITORY = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(\S+))?")


@dataclass(frozen=True, slots=True)
class Source:
    """A folder on this machine, and how it came here.

    name        of the bundle, unless another is given
    provenance  for a manifest: {} for a folder; "repository", "revision" and "commit" on the hub
    """

    path: Path
    name: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        if not self.provenance:
            return str(self.path)
        return f"{self.provenance['repository']} at commit {self.provenance['commit']}"


def find_source(
    name: str | os.PathLike[str], *, revision: str | None = None, offline: bool = False
) -> Source:
    """The checkpoint of that name; fetched first if it is one of the hub.

    name      a folder, or "org/name", or "org/name@revision"
    revision  branch, tag or commit of a repository; None: "main"
    offline   take what an earlier fetch left, and ask nobody
    """
    path = Path(name)
    matched = REPOSITORY.fullmatch(os.fspath(name))
    if path.exists() or not matched:
        if revision is not None:
            raise CheckpointError(f"--revision {revision}: {path} is no repository of the hub; leave it out")
        if not path.exists():
            raise CheckpointError(
                f"{path}: no such folder, and not the name of a repository on the hub, which is org/name"
            )
        return Source(path, path.resolve().name)

    from decodekit_export.hub import fetch

    repository, said = matched.groups()
    if said and revision and said != revision:
        raise CheckpointError(f"{name} and --revision {revision} are two revisions; give one")
    return fetch(repository, said or revision or "main", offline=offline)
