"""What the numbers were taken on."""

import os
import platform

import psutil

from pipeline import environment


def describe() -> dict[str, str | int | float]:
    """Cores this process may use, CPU, memory, system, and how busy the machine is already."""
    return {
        "cores": environment.cores(),
        "cpu": environment.cpu_name(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }
