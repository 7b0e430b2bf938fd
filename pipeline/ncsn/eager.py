"""Optimisers of torch that do not import torch.compile's compiler, 800 modules and 2 CPU seconds of a process.

torch hides some methods of an optimiser from the compiler, and imports it at their first call to do so. Here they are
the functions inside. No optimiser of ours is compiled.
"""

from inspect import unwrap

import torch


class _Eager(torch.optim.Optimizer):
    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)


class EagerAdam(_Eager, torch.optim.Adam):
    """`torch.optim.Adam`."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class EagerAdamW(_Eager, torch.optim.AdamW):
    """`torch.optim.AdamW`."""

    step = EagerAdam.step


class EagerMuon(_Eager, torch.optim.Muon):
    """`torch.optim.Muon`, whose step is not hidden."""
