"""What a result was made on and with: hardware and versions, each as one line of text."""

import os
import platform
import shutil
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from pipeline import kernels

PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "optuna",
    "pillow",
    "pyarrow",
    "torch-fidelity",
    "safetensors",
    "ray",
    "mlflow",
    "dvc",
)
CPUINFO = Path("/proc/cpuinfo")
GPUS = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
"""Asked of the driver: torch would claim the GPU to answer."""


@cache
def versions() -> str:
    """Python's version and those of the packages that decide or keep a result."""
    return ", ".join([f"python {platform.python_version()}", *map(version, PACKAGES)])


def version(package: str) -> str:
    """A package's name and version."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} not installed"


@cache
def hardware() -> str:
    """The CPU's name, the cores this process may use, and the GPUs there are, equal ones counted; bounds on kernels."""
    found = gpus()
    counted = [f"{found.count(name)} x {name}" for name in dict.fromkeys(found)]
    bounded = ["portable kernels"] if kernels.portable() else []
    return ", ".join([f"{cpu_name()}, {cores()} cores", *counted, *bounded])


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_name() -> str:
    """The CPU's name for a person; Linux keeps it out of `platform`."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpus() -> list[str]:
    """The names of NVIDIA's GPUs; none where there is no driver."""
    if shutil.which(GPUS[0]) is None:
        return []
    try:
        done = subprocess.run(GPUS, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
