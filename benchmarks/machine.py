"""What the numbers were taken on."""

import os
import platform
from pathlib import Path

import psutil

CPUINFO = Path("/proc/cpuinfo")


def describe() -> dict[str, str | int | float]:
    """Cores this process may use, CPU, memory, system, and how busy the machine is already."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "cpu": cpu_name(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def cpu_name() -> str:
    """The CPU's name for a person; Linux keeps it out of `platform`."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
