"""Which pieces have the same bits on three processors: this one, one without AVX-512, one of another maker.

    python -m benchmarks.processors

The other two are this one, whose CPUID is edited by `benchmarks/cpuid.c` (Linux on x86-64 with CPUID faulting;
needs a C compiler). So what libraries choose by the processor is seen, and not what processors compute
differently by themselves.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe

PROCESSORS = {"this one": None, "without AVX-512": "no_avx512", "AMD Zen 3": "zen3"}
SOURCE = Path(__file__).with_name("cpuid.c")


def bits(kind: str, processor: str | None, library: Path) -> dict[str, str]:
    """The first 8 digits of the hash of each piece of `benchmarks.bits`."""
    other = {} if processor is None else {"LD_PRELOAD": str(library), "PROCESSOR": processor}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.bits", kind]
    done = subprocess.run(command, env=os.environ | other, stdout=subprocess.PIPE, text=True, check=True)
    level, *lines = done.stdout.splitlines()
    return {"torch's instruction set": level} | {line.split()[0]: line.split()[1][:8] for line in lines}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    sys.stdout.write(f"{describe()}\n\n| kernels | piece | {' | '.join(PROCESSORS)} | the same |\n")
    sys.stdout.write("| :-- | :-- | :-- | :-- | :-- | :-- |\n")
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "cpuid.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE)], check=True)
        for kind in ("native", "portable"):
            found = [bits(kind, processor, library) for processor in PROCESSORS.values()]
            for piece in found[0]:
                cells = [of[piece] for of in found]
                same = "yes" if len(set(cells)) == 1 else "no"
                sys.stdout.write(f"| {' | '.join([kind, piece, *cells, same])} |\n")


if __name__ == "__main__":
    main()
