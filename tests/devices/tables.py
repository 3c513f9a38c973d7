"""What the check of a device found, as tables in Markdown."""

from __future__ import annotations

from typing import Any

from devices.timing import table


def tables(report: dict[str, Any]) -> str:
    """The machine, what holds, speed, what was left out, and what a step of sampling takes."""
    parts = [_machine(report["device"], report["machine"]), _proofs(report), _speeds(report)]
    absent = [f"- {name}: {why}" for name, why in report["absent"].items()]
    if absent:
        parts.append("Left out:\n\n" + "\n".join(absent))
    parts.append(table(report["timings"]))
    return "\n\n".join(part for part in parts if part) + "\n"


def _machine(device: str, machine: dict[str, Any]) -> str:
    said = ", ".join(f"{name} {value}" for name, value in machine.items() if value and name != "cards")
    shown = machine["cards"] if isinstance(machine["cards"], str) else "; ".join(machine["cards"])
    return f"Device {device}: {shown}. {said}."


def _proofs(report: dict[str, Any]) -> str:
    lines = ["| bundle | logits, cache (off, basic, all) | bar | tokens | soak |", "|---|---|---|---|---|"]
    for name, found in report["bundles"].items():
        levels = found["parity"].get("levels", {}).values()
        worst = ", ".join("/".join(f"{one[what]:.1e}" for what in one) for one in levels) or "failed"
        held = ["holds" if found[part].get("holds") else "DOES NOT HOLD" for part in ("tokens", "soak")]
        lines.append(f"| {name} | {worst} | {found['parity'].get('bar', '')} | {held[0]} | {held[1]} |")
    return "\n".join(lines)


def _speeds(report: dict[str, Any]) -> str:
    speeds = [found for name, found in report.items() if name.startswith("speed of ") and "stream" in found]
    if not speeds:
        return ""
    peers = [*speeds[0]["peers"]]
    lines = [
        f"| shape | type | decodekit, tokens/s | bare loop | share | {' | '.join(peers)} "
        "| rows, ms a step, top_p over greedy | bytes a token, over the floor |",
        "|---" * (7 + len(peers)) + "|",
    ]
    for one in speeds:
        stream, batch, floor = one["stream"], one["batch"], one["floor"]
        others = [one["peers"][name] for name in peers]
        said = [f"{p['tokens_per_second']:.1f}" if "absent" not in p else f"({p['absent']})" for p in others]
        lines.append(
            f"| {one['shape']} | {one['dtype']} | {stream['decodekit']:.1f} | {stream['bare']:.1f} "
            f"| {stream['share']:.2f} | {' | '.join(said)} "
            f"| {batch['rows']}, {batch['greedy_ms']:.2f}, {batch['top_p_over_greedy']:.2f} "
            f"| {floor['bytes_per_token']:,}, {floor['over_floor']:.2f} |"
        )
    return "\n".join(lines)
