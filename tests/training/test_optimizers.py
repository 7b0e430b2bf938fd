"""Optimisers: the updates that the papers give, and what each remembers survives a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import find, kinds
from pipeline.training.checkpoints import load_state, optimizer_tensors, save
from pipeline.training.loop import train
from pipeline.training.optimizers.adam import Adam
from pipeline.training.optimizers.adamw import AdamW
from pipeline.training.optimizers.muon import Muon
from pipeline.training.schedules.cosine import Cosine
from pipeline.training.schedules.warmup import Warmup
from pipeline.training.state import TrainingState, fresh
from tests.training.tiny import digest, make_task

BETAS = (0.9, 0.999)
OPTIMIZERS = {
    "adam": Adam(1e-3, BETAS, 1e-8),
    "adamw": AdamW(1e-3, BETAS, 1e-8, 0.01),
    "muon": Muon(1e-3, 0.95, BETAS, 1e-8, 0.01),
}
SCHEDULES = {"warmup": Warmup(5), "cosine": Cosine(2, 0.1)}
CASES = [(o, "warmup") for o in OPTIMIZERS] + [("adam", "cosine"), ("muon", "cosine")]


def test_each_kind_is_found_by_its_name_and_tried_below() -> None:
    assert {kind: find("optimizers", kind) for kind in kinds("optimizers")} == {
        kind: type(settings) for kind, settings in OPTIMIZERS.items()
    }


@pytest.mark.parametrize(("optimizer", "schedule"), CASES)
def test_a_resumed_run_ends_in_the_same_bits(optimizer: str, schedule: str, images: np.ndarray, tmp_path: Path) -> None:
    task = make_task(optimizer=OPTIMIZERS[optimizer], schedule=SCHEDULES[schedule], steps=4)
    state = fresh(task)
    for event in train(task, images, state=state):
        if event.step == 2:
            save(tmp_path / "half", event.state)
    save(tmp_path / "undisturbed", state)
    resumed = load_state(tmp_path / "half", task)
    list(train(task, images, state=resumed))
    save(tmp_path / "resumed", resumed)
    assert digest(tmp_path / "resumed") == digest(tmp_path / "undisturbed")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_nothing_that_an_optimizer_remembers_is_left_out_of_a_checkpoint(optimizer: str, images: np.ndarray) -> None:
    state = stepped(make_task(optimizer=OPTIMIZERS[optimizer]), images)
    names = {name.split("/", 1)[1] for name in optimizer_tensors(state)}
    assert names == {name for name, _ in state.network.named_parameters()}
    keys = {name.split("/", 1)[0] for name in optimizer_tensors(state)}
    assert keys == {"step", "exp_avg", "exp_avg_sq"} | ({"momentum_buffer"} if optimizer == "muon" else set())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("rollbacks", [0, 2])
def test_the_rate_is_the_schedule_s_halved_by_each_rollback(optimizer: str, rollbacks: int, images: np.ndarray) -> None:
    state = fresh(make_task(optimizer=OPTIMIZERS[optimizer], schedule=Warmup(4)))
    state.slow_down(rollbacks)
    for event in train(state.task, images, state=state):
        rates = [group["lr"] for group in state.optimizer.param_groups]
        assert rates == [1e-3 * 0.5**rollbacks * min(1, event.step / 4)] * len(rates)
        if event.step == 5:
            break


def test_adamw_shrinks_every_weight_before_adam_s_step() -> None:
    start = torch.tensor([[2.0, -3.0]])
    gradient = torch.tensor([[0.5, -0.1]])
    adam, adamw = (
        stepped_matrix(start, gradient, settings) for settings in (Adam(0.1, BETAS, 1e-8), AdamW(0.1, BETAS, 1e-8, 0.2))
    )
    torch.testing.assert_close(adamw, adam - start + start * (1 - 0.1 * 0.2))


def test_muon_orthogonalises_the_update_of_a_kernel_as_a_matrix() -> None:
    """All singular values of the update come near to 1, in AdamW's RMS: 0.2 sqrt(max(O, I h w)) lr."""
    kernel = nn.Conv2d(3, 8, 3, bias=False)
    start = kernel.weight.detach().clone()
    kernel.weight.grad = torch.randn(start.shape, generator=torch.Generator().manual_seed(0))
    optimizer = Muon(0.1, 0.95, BETAS, 1e-8, 0.0).build(kernel)
    optimizer.step()
    update = (start - kernel.weight.detach()).flatten(1) / (0.1 * 0.2 * 27**0.5)
    singular = torch.linalg.svdvals(update)
    assert singular.min() > 0.5 and singular.max() < 1.5
    assert torch.linalg.svdvals(kernel.weight.grad.flatten(1)).max() > 2


def test_muon_leaves_biases_embeddings_and_the_first_and_last_layers_to_adamw(images: np.ndarray) -> None:
    network = {"kind": "ncsn", "channels": 1, "image_size": 8, "width": 8, "sigmas": (1.0, 0.1)}
    state = stepped(make_task(optimizer=OPTIMIZERS["muon"], network=network), images)
    by_muon = {name.split("/", 1)[1] for name in optimizer_tensors(state) if "momentum_buffer" in name}
    parameters = dict(state.network.named_parameters())
    kernels = {name for name, value in parameters.items() if value.ndim == 4}
    assert by_muon == kernels - {"begin_conv.weight", "end_conv.weight"}
    assert any("embed" in name for name in parameters.keys() - by_muon)


def test_torch_s_muon_refuses_kernels_and_biases() -> None:
    """The reason for the matrices in `optimizers/muon.py`: where torch takes kernels itself, they can go."""
    for shape in ((8, 3, 3, 3), (8,)):
        with pytest.raises(ValueError, match="only supports 2D"):
            torch.optim.Muon([nn.Parameter(torch.zeros(shape))])


WRONG: list[dict[str, Any]] = [
    {"lr": 0.0},
    {"lr": float("inf")},
    {"eps": -1.0},
    {"betas": (0.9, 1.0)},
    {"betas": (0.9,)},
    {"weight_decay": 1.0},
    {"momentum": 1.0},
]
OWN = [
    (kind, wrong) for kind in (Adam, AdamW, Muon) for wrong in WRONG if wrong.keys() <= set(kind.__dataclass_fields__)
]


@pytest.mark.parametrize(("kind", "wrong"), OWN)
def test_settings_out_of_range_are_refused_by_name(kind: Any, wrong: dict[str, Any]) -> None:
    settings = {"lr": 1e-3, "betas": BETAS, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.95} | wrong
    fields = set(kind.__dataclass_fields__)
    with pytest.raises(UserError, match=rf"^{next(iter(wrong))} is "):
        kind(**{name: settings[name] for name in fields})


def stepped(task: Any, images: np.ndarray) -> TrainingState:
    state = fresh(task)
    next(train(task, images, state=state))
    return state


def stepped_matrix(start: Tensor, gradient: Tensor, settings: Any) -> Tensor:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data.copy_(start)
    layer.weight.grad = gradient.clone()
    settings.build(layer).step()
    return layer.weight.detach()
