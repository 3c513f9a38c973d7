"""How much memory there is."""

from __future__ import annotations


def free_memory() -> int:
    """Bytes that are free now, of the machine or of its control group."""
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            free = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 8 << 30
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as f:
            limit = f.read().strip()
        return min(free, int(limit)) if limit != "max" else free
    except (OSError, ValueError):
        return free
