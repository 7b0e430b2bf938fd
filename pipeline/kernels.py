"""Kernels of one kind: what torch's libraries choose by the processor is bounded, so that others give the same bits."""

import os
import sys
from typing import Literal

Kernels = Literal["portable", "native"]

PORTABLE = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # MKL's AVX2 differs between makers of processors; "COMPATIBLE" is the one branch that all of them share.
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
}
"""Variables of the environment: of torch, of its two libraries, and of NumPy's and SciPy's."""


def choose(kernels: Kernels) -> None:
    """Bound the kernels of this process and of those it starts.

    OpenBLAS reads its variable when NumPy is imported, so the process begins again as another program with
    the same arguments, where it has not the bounds yet.

    Args:
        kernels: "portable": those of AVX2, which processors with AVX-512 have too; "native": what each
            library finds best here, or the environment says.
    """
    if kernels == "portable" and not portable():
        os.execve(sys.executable, sys.orig_argv, os.environ | PORTABLE)


def portable() -> bool:
    """Whether this process computes with portable kernels."""
    return variables() == PORTABLE


def variables() -> dict[str, str]:
    """The bounds of this process, for a process that does not inherit its environment."""
    return {name: os.environ[name] for name in PORTABLE if name in os.environ}
