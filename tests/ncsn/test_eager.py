"""Optimisers without torch's compiler: what torch hides from it must stay where it is looked for."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.ncsn import eager

ROOT = Path(__file__).parents[2]
USED = """
import sys, torch
from pipeline.ncsn import eager

def use(kind):
    network = torch.nn.Linear(3, 2, bias=False)
    optimizer = kind(network.parameters(), 1e-3)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    optimizer.zero_grad()
    return "torch._dynamo" in sys.modules

print(*map(use, (eager.EagerAdam, eager.EagerAdamW, eager.EagerMuon, torch.optim.Adam)))
"""


def test_an_optimizer_imports_no_compiler_as_torchs_own_does() -> None:
    done = subprocess.run([sys.executable, "-c", USED], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["False"] * 3 + ["True"], f"torch {torch.__version__}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Muon"])
def test_the_weights_are_those_of_torchs_own(name: str) -> None:
    assert torch.equal(trained(getattr(eager, f"Eager{name}")), trained(getattr(torch.optim, name)))


def trained(kind: Any) -> torch.Tensor:
    """(4, 3) weights after steps from a state that was saved and loaded; of them no step has a gradient."""
    weights = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(4, 3))
    optimizer = kind([weights], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (weights**4).sum().backward()
        optimizer.step()
        saved = optimizer.state_dict()
        optimizer = kind([weights], lr=0.5)
        optimizer.load_state_dict(saved)
    assert not any(value.requires_grad for value in optimizer.state[weights].values())
    return weights.detach()
