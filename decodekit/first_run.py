"""
The first run of a bundle where it was not checked.

A manifest says on which provider, hardware and onnxruntime the graph was held against PyTorch. Where
one of them is another, the canary of the bundle is decoded once. That it agreed is remembered in the
user's cache directory; what disagreed is looked at again every time.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from decodekit import hardware
from decodekit.bundle import Bundle
from decodekit.canary import Canary, canary_of
from decodekit.errors import CanaryError
from decodekit.files import read_json
from decodekit.onnx_model import ConcatenatingModel, InPlaceModel

OnnxModel = InPlaceModel | ConcatenatingModel

REMEMBERED = 256  # verdicts; the oldest goes first


def check_first_run(bundle: Bundle, model: OnnxModel) -> None:
    """Raise CanaryError if the bundle answers otherwise here than where it was checked.

    Nothing is run where nothing differs, or for a bundle that has no canary.
    """
    here = surroundings(model)
    if "canary" not in bundle.manifest or not (changed := changes(bundle, here)):
        return
    canary = canary_of(bundle)
    if canary is None:
        return
    place = _place(bundle, here)
    if _agreed(place):
        return
    difference = canary.difference(model)
    if not difference <= canary.bar:
        raise CanaryError(f"{bundle.path}: {sentence(difference, canary)}, {changed}; {_way_out(bundle)}")
    _remember(place, {"difference": difference, "bar": canary.bar, **here})


def surroundings(model: OnnxModel) -> dict[str, str]:
    """What may compute in another way: provider, hardware and version, by their names in a parity record."""
    provider = model.provider
    return {
        "provider": provider,
        "device": hardware.describe(provider),
        "onnxruntime": model.session.version,
    }


def changes(bundle: Bundle, here: dict[str, str]) -> str:
    """What of that is another than where the bundle was checked, in words; "" for nothing that is known."""
    there = bundle.manifest.get("parity") or {}
    return ", ".join(
        f"{name} {now} instead of {there[name]}" for name, now in here.items() if there.get(name, now) != now
    )


def sentence(difference: float, canary: Canary) -> str:
    """What a canary found that does not agree."""
    return f"a logit of the stored answer is off by {difference:.2g}, allowed is {canary.bar:.2g}"


def _way_out(bundle: Bundle) -> str:
    version = (bundle.manifest.get("parity") or {}).get("onnxruntime")
    return (
        f"install onnxruntime {version}, choose another device, export the bundle here, "
        "or decode all the same with load(..., canary=False)"
    )


def _place(bundle: Bundle, here: dict[str, str]) -> Path:
    named = json.dumps([bundle.sha256, here], sort_keys=True)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "decodekit" / "canaries" / f"{hashlib.sha256(named.encode()).hexdigest()}.json"


def _agreed(place: Path) -> bool:
    with suppress(Exception):  # not there, or whatever lies there instead
        verdict = read_json(place)
        return float(verdict["difference"]) <= float(verdict["bar"])
    return False


def _remember(place: Path, verdict: dict[str, object]) -> None:
    """Write it whole, and forget the oldest of many. A place that cannot be written is no matter."""
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = place.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(verdict), encoding="utf-8")
        draft.replace(place)
        known = sorted(place.parent.glob("*"), key=lambda file: file.stat().st_mtime)
        for old in known[:-REMEMBERED]:
            old.unlink()
