"""torch-fidelity's modules without torchvision."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator

_PACKAGE = "torch_fidelity"


@contextlib.contextmanager
def without_torchvision() -> Iterator[None]:
    """Within the block modules of torch-fidelity are imported without the package's `__init__`.

    That imports torchvision, for networks not used here, and the registry's torchvision does not import
    beside a CPU build of torch. torchmetrics imports such modules wherever torch-fidelity is installed.
    Afterwards the package is as it was: who imports it whole gets it whole.
    """
    spec = None if _PACKAGE in sys.modules else importlib.util.find_spec(_PACKAGE)
    if spec is None:
        yield
        return
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]
