"""
The hub: fetch a repository's checkpoint into the cache, pinned to a commit.

huggingface_hub does the work: where a connection breaks off it goes on, and what is in the cache
is not fetched again. Only files that a checkpoint consists of are asked for, so nothing
that could run comes to this machine. All files are of one commit, which the manifest names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from decodekit_export.checkpoint_source import Source
from decodekit_export.errors import CheckpointError, ExportError, FetchError, first_line
from decodekit_export.weights import instead_of_weights

FILES = (
    *("config.json", "generation_config.json", "*.safetensors", "model.safetensors.index.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
    *("LICENSE*", "LICENCE*", "license*", "licence*"),
)
NOT = ("*/*", "consolidated*")  # other formats, and the same weights a second time


def fetch(repository: str, revision: str, *, offline: bool = False) -> Source:
    """The repository at that revision, in the cache of the hub's library.

    repository  "org/name"
    revision    branch, tag or commit
    offline     the cache has it, or it is an error; so it is where HF_HUB_OFFLINE is set
    """
    offline = offline or constants.HF_HUB_OFFLINE
    with _told(repository, revision):
        commit = None if offline else _commit(repository, revision)
        folder = Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[*FILES],
                ignore_patterns=[*NOT],
                local_files_only=offline,
            )
        )
    if commit not in (None, folder.name):
        raise FetchError(f"{repository}: {revision} moved from {commit} while it was fetched; try again")
    return Source(
        folder,
        repository.split("/")[1],
        {"repository": repository, "revision": revision, "commit": folder.name},
    )


def _commit(repository: str, revision: str) -> str:
    """The commit that a revision is now, if the repository then holds a checkpoint that may be read."""
    info = HfApi().model_info(repository, revision=revision)
    names = [file.rfilename for file in info.siblings or ()]
    if not any(name.endswith(".safetensors") for name in names):
        raise CheckpointError(f"{repository}: {instead_of_weights(names) or 'has no safetensors weights'}")
    if "config.json" not in names:
        raise CheckpointError(f"{repository}: no config.json, so no checkpoint")
    if not re.fullmatch("[0-9a-f]{40}", info.sha or ""):
        raise FetchError(f"{repository}: the hub names no commit for {revision!r}; check HF_ENDPOINT")
    return str(info.sha)


@contextmanager
def _told(repository: str, revision: str) -> Iterator[None]:
    """What the hub's library raises, in one line with the way out."""
    what = f"{repository} at {revision}"
    try:
        yield
    except LocalEntryNotFoundError as exc:  # also a snapshot of which files are missing
        missing = re.search(r"are missing \((.+?)\)\.", str(exc))
        state = f"not whole, {missing[1]} missing," if missing else "not"
        raise FetchError(
            f"{what}: {state} in the cache {constants.HF_HUB_CACHE}, and offline nothing is fetched; drop "
            f"--offline and HF_HUB_OFFLINE, or run: hf download {repository} --revision {revision}"
        ) from exc
    except GatedRepoError as exc:
        raise FetchError(
            f"{repository}: its terms must be accepted on its page first; then log in with `hf auth login`, "
            "or set HF_TOKEN"
        ) from exc
    except RepositoryNotFoundError as exc:
        raise FetchError(
            f"{repository}: no such folder, and no such repository on the hub, or a private one; check the "
            "name, or log in with `hf auth login` or HF_TOKEN"
        ) from exc
    except RevisionNotFoundError as exc:
        raise FetchError(
            f"{repository}: has no revision {revision!r}; give a branch, a tag or a commit"
        ) from exc
    except ExportError:
        raise
    except Exception as exc:  # the library's own, those of its HTTP client, OSError of a full disk
        reason = first_line(exc)
        raise FetchError(
            f"{what}: cannot be fetched ({reason}); try again, files that came are kept, "
            "or take what is in the cache with --offline"
        ) from exc
