"""
Everything that a device must prove, in one command.

    PYTHONPATH=tests python -m devices.check [--device cuda] [--shapes smol qwen] [--dtypes float16 ...]
        [--bundle DIR ...] [--soak 60] [--quick] [--models build/gpu-check-models] [--out build/gpu-check]

Proofs: chains in graphs, and of each bundle parity at every level of optimisation, tokens, a soak. Then
speed: of one stream beside a bare loop and peers, of a batch with top-p, beside what memory allows. The
models are random, see `models`; what cannot be had is left out, with the reason. Writes OUT.json, and
OUT.md with tables for docs/devices.md and docs/benchmarks.md. Exit status 1: something does not hold; 3: the
device is not there. With `--device cpu` all of it runs without a card, which tests the command.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devices import proofs, speed
from devices.models import DTYPES, AbsentError, bundle_of, checkpoint_of
from devices.peers import NEEDS, measured
from devices.tables import tables
from devices.timing import timings

from decodekit.bundle import Bundle, open_bundle
from decodekit.doctor import examine
from decodekit.errors import DecodekitError
from decodekit.gpu import cards
from decodekit.inspection import placement
from decodekit.onnx_session import device_of, versions
from decodekit.plugins import load_plugins

FIXTURE = Path(__file__).parent.parent / "fixtures" / "in_place"
ROWS = 64  # of the batch


def main() -> int:
    args = _arguments()
    try:
        device = device_of(args.device)
    except DecodekitError as exc:
        print(f"{exc}", file=sys.stderr)
        return exc.exit_code
    report: dict[str, Any] = {"device": device, "machine": _machine(), "absent": {}, "bundles": {}}
    report["doctor"] = examine(load_plugins()).to_json()
    chains, steps, most = (3, 3, 5) if args.quick else (200, 60, None)

    holds = [_part(report, "strategies", lambda: proofs.strategies(device, chains, steps, most))]
    folders = [FIXTURE, *map(Path, args.bundle)]
    for dtype in args.dtypes:
        folders += _present(
            report, holds, f"tiny {dtype}", lambda dtype=dtype: bundle_of("tiny", dtype, args.models)
        )
    for folder in folders:
        holds.append(_proved(report, open_bundle(folder), device, args.soak))
    for shape in args.shapes:
        for folder in _present(
            report, holds, f"{shape} {args.dtype}", lambda s=shape: bundle_of(s, args.dtype, args.models)
        ):
            bundle = open_bundle(folder)
            holds.append(_part(report, f"parity of {bundle.name}", lambda b=bundle: proofs.parity(b, device)))
            _part(report, f"speed of {bundle.name}", lambda b=bundle, s=shape: _speed(b, device, s, args))
    vocabularies = (1000,) if args.quick else None
    report["timings"] = timings(device, 1 if args.quick else 15, vocabularies)
    report["holds"] = all(holds)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    args.out.with_suffix(".md").write_text(tables(report))
    print(f"{'all holds' if report['holds'] else 'something does not hold'}: {args.out}.json, {args.out}.md")
    return 0 if report["holds"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", nargs="*", default=["smol", "qwen"], help="of the models that are timed")
    parser.add_argument("--dtype", choices=DTYPES, default="float16", help="of the models that are timed")
    parser.add_argument(
        "--dtypes", nargs="*", choices=DTYPES, default=DTYPES, help="of those that are proved"
    )
    parser.add_argument("--peers", nargs="*", choices=NEEDS, default=NEEDS)
    parser.add_argument("--bundle", action="append", default=[], help="besides the one of the tests")
    parser.add_argument("--soak", type=float, default=60.0, metavar="SECONDS", help="the long form is 600")
    parser.add_argument("--quick", action="store_true", help="only prove that the command runs")
    parser.add_argument("--models", type=Path, default=Path("build/gpu-check-models"), metavar="FOLDER")
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"))
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    found, why = cards()
    return {
        "cards": [str(card) for card in found] or why,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: value for name, value in versions().items() if name != "providers"},
    }


def _proved(report: dict[str, Any], bundle: Bundle, device: str, seconds: float) -> bool:
    found: dict[str, Any] = {}
    report["bundles"][bundle.name] = found
    _part(found, "placement", lambda: placement(bundle, device))
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "parity": lambda: proofs.parity(bundle, device),
        "tokens": lambda: proofs.tokens(bundle, device),
        "soak": lambda: proofs.soak(bundle, device, seconds),
    }
    held = [_part(found, name, run) for name, run in parts.items()]
    return all(held)


def _speed(bundle: Bundle, device: str, shape: str, args: argparse.Namespace) -> dict[str, Any]:
    count, rows, size = (8, 4, 1 << 20) if args.quick else (256, ROWS, 1 << 28)
    one = speed.stream(bundle, device, count)
    checkpoint = checkpoint_of(shape, args.models)
    return {
        "shape": shape,
        "dtype": args.dtype,
        "stream": one,
        "batch": speed.batch(bundle, device, rows, count),
        "floor": speed.floor(bundle, device, one["decodekit"], count // 2, size),
        "peers": {name: measured(name, checkpoint, device, args.dtype, count) for name in args.peers},
    }


def _present(report: dict[str, Any], holds: list[bool], name: str, make: Callable[[], Path]) -> list[Path]:
    """The folder that is made; none where it cannot be, with the reason in the report."""
    print(f"{name} ...", flush=True)
    try:
        return [make()]
    except (AbsentError, RuntimeError) as exc:
        holds.append(isinstance(exc, AbsentError))
        report["absent"][name] = str(exc)
        print(f"{name}: {'left out' if holds[-1] else 'DOES NOT HOLD'}: {exc}", flush=True)
        return []


def _part(report: dict[str, Any], name: str, run: Callable[[], dict[str, Any]]) -> bool:
    """Whether a part holds; one that fails is told, and the others are still tried."""
    print(f"{name} ...", flush=True)
    try:
        report[name] = run()
    except (DecodekitError, RuntimeError) as exc:
        report[name] = {"error": f"{type(exc).__name__}: {exc}", "holds": False}
    held = bool(report[name].get("holds", True))
    print(f"{name}: {'holds' if held else 'DOES NOT HOLD'}", flush=True)
    return held


if __name__ == "__main__":
    raise SystemExit(main())
