"""Kernels of one kind: the bounds hold, and bits do not follow from what the processor has beyond them."""

import os
import subprocess
import sys

import pytest
import torch

from pipeline import environment, kernels, program

HIDDEN = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512CD,-AVX512DQ",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
}
"""What the libraries beside torch's see of AVX-512; names that a processor lacks are passed over."""


def done(kind: str, **variables: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name not in kernels.PORTABLE}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.bits", kind]
    return subprocess.run(
        command, env=clean | variables, capture_output=True, text=True, check=True
    ).stdout.splitlines()


def test_portable_kernels_give_the_same_bits_with_and_without_what_lies_beyond_avx2() -> None:
    seen, hidden = done("portable"), done("portable", **HIDDEN)
    assert seen[0] in ("AVX2", "DEFAULT") and len(seen) == 6
    assert seen == hidden


def test_the_bounds_reach_torch_after_its_import_and_native_ones_leave_it_alone() -> None:
    assert done("native")[0] == torch.backends.cpu.get_cpu_capability()
    assert done("portable")[0] in ("AVX2", "DEFAULT")


def test_a_result_of_portable_kernels_has_another_identity_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    native = program.version("pipeline.training.fit")
    for name, value in kernels.PORTABLE.items():
        monkeypatch.setenv(name, value)
    assert program.version("pipeline.training.fit") == f"{native} portable kernels"
    assert environment.hardware.__wrapped__().endswith(", portable kernels")
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    assert program.version("pipeline.training.fit") == native
