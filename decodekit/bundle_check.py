"""
The check of a bundle: everything that can be known of it on this machine, finding by finding.

It goes on where it can: a graph that the rules refuse is not run, but the files are still compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from decodekit.bundle import Bundle, check_files, check_graph, read_bundle
from decodekit.canary import canary_of
from decodekit.errors import BundleError, DecodekitError
from decodekit.first_run import OnnxModel, changes, sentence, surroundings
from decodekit.onnx_model import load_model
from decodekit.tokenizer import Tokenizer

OK, FAILED, ABSENT = "ok", "failed", "absent"


@dataclass(frozen=True, slots=True)
class Finding:
    """
    what    "manifest", "files", "graph", "tokenizer", "session" or "canary"
    state   "ok", "failed", or "absent": there is nothing to compare with, or no use in going on
    detail  a sentence
    """

    what: str
    state: str
    detail: str


@dataclass(frozen=True, slots=True)
class BundleCheck:
    """The findings about a folder."""

    path: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        return all(finding.state != FAILED for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "passed": self.passed, "findings": [asdict(f) for f in self.findings]}


def check_bundle(
    path_or_name: str | os.PathLike[str], *, device: str = "auto", threads: int | None = None
) -> BundleCheck:
    """Compare files and hashes, apply the rules for graphs, load the graph, and decode the canary.

    device, threads  as for `load`
    """
    findings: list[Finding] = []

    def found(what: str, look: Callable[[], str | None]) -> bool:
        try:
            detail = look()
        except (DecodekitError, OSError) as exc:
            findings.append(Finding(what, FAILED, str(exc)))
            return False
        findings.append(Finding(what, ABSENT if detail is None else OK, detail or _NOTHING[what]))
        return True

    read: list[Bundle] = []
    loaded: list[OnnxModel] = []
    if not found("manifest", lambda: _manifest(path_or_name, read)):
        return BundleCheck(os.fspath(path_or_name), tuple(findings))
    (bundle,) = read
    files = found("files", lambda: _files(bundle))
    graph = found("graph", lambda: _graph(bundle))
    found("tokenizer", lambda: _tokenizer(bundle))
    if files and graph:
        found("session", lambda: _session(bundle, device, threads, loaded))
    if all(finding.state != FAILED for finding in findings):
        found("canary", lambda: _canary(bundle, *loaded))
    return BundleCheck(str(bundle.path), tuple(findings))


_NOTHING = {
    "files": "no hashes to compare with: the folder was made by others",
    "canary": "no stored answer to compare with; export the bundle again to have one",
}


def _manifest(path_or_name: str | os.PathLike[str], read: list[Bundle]) -> str:
    bundle = read_bundle(path_or_name)
    read.append(bundle)
    if not bundle.sealed:
        return f"made by others ({bundle.manifest['origin']}), described by its files"
    return f"of {bundle.name}, well-formed"


def _files(bundle: Bundle) -> str | None:
    if not bundle.sealed:
        return None
    check_files(bundle)
    sizes = [entry["size"] for entry in bundle.manifest["files"].values()]
    return f"{len(sizes)} files, {sum(sizes):,} bytes, size and sha256 as the manifest says"


def _graph(bundle: Bundle) -> str:
    nodes = sum(1 for _ in check_graph(bundle).every_node())
    return f"{nodes:,} operators, all allowed; weights have their sizes and stay in the folder"


def _tokenizer(bundle: Bundle) -> str:
    size = Tokenizer(bundle.tokenizer, bundle.stop_ids).size
    if size > bundle.vocabulary:
        raise BundleError(f"{bundle.path}: the tokenizer has {size} tokens, the graph {bundle.vocabulary}")
    return f"{size:,} tokens for a vocabulary of {bundle.vocabulary:,}"


def _session(bundle: Bundle, device: str, threads: int | None, loaded: list[OnnxModel]) -> str:
    model = load_model(bundle, device=device, threads=threads)
    loaded.append(model)
    changed = changes(bundle, surroundings(model))
    return f"{model.provider}, onnxruntime {model.session.version}" + (f"; {changed}" if changed else "")


def _canary(bundle: Bundle, model: OnnxModel) -> str | None:
    canary = canary_of(bundle)
    if canary is None:
        return None
    difference = canary.difference(model)
    if not difference <= canary.bar:
        raise BundleError(f"{bundle.path}: {sentence(difference, canary)}; export the bundle again")
    return (
        f"{len(canary.ids)} steps within {difference:.1e} of the stored answer, allowed is {canary.bar:.1e}"
    )
