"""The loop: the published algorithm step by step, its events, and how it stops."""

import itertools
import math

import numpy as np
import pytest
import torch

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.losses.edm import EDM
from pipeline.ncsn.networks import make_network
from pipeline.training.batches import micro_batches
from pipeline.training.log import curve
from pipeline.training.loop import DivergedError, Event, train
from pipeline.training.state import fresh
from tests.training.tiny import make_images, make_task


def second_implementation(steps: int, images: np.ndarray) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Equation 5 and 6 of NCSN, Adam and the moving average written out, on whole batches."""
    task = make_task()
    torch.manual_seed(task.seed)
    network = make_network(**task.network)
    average = {name: value.detach().clone() for name, value in network.named_parameters()}
    moments = {name: (torch.zeros_like(v), torch.zeros_like(v)) for name, v in network.named_parameters()}
    losses = []
    for step in range(steps):
        parts = micro_batches(task, images, step, range(4), torch.device("cpu"))
        x, sigma, z = (torch.cat([getattr(d, key) for d in parts]) for key in ("x", "sigma", "noise"))
        noisy = x + sigma[:, None, None, None] * z
        target = -(noisy - x) / sigma[:, None, None, None] ** 2
        squared = (network(noisy, sigma) - target).pow(2).sum((1, 2, 3))
        loss = (sigma**2 * squared / 2).mean()
        losses.append(loss.item())
        network.zero_grad()
        loss.backward()
        for name, value in network.named_parameters():
            m, v = moments[name]
            m.mul_(0.9).add_(value.grad, alpha=0.1)
            v.mul_(0.999).addcmul_(value.grad, value.grad, value=0.001)
            scale = (v / (1 - 0.999 ** (step + 1))).sqrt() + task.optimizer.eps
            value.data -= task.optimizer.lr * (m / (1 - 0.9 ** (step + 1))) / scale
            average[name] = 0.9 * average[name] + 0.1 * value.data
    return losses, average


@pytest.mark.parametrize("determinism", ["bitwise", "fast"])
def test_it_is_the_published_algorithm(determinism: str, images: np.ndarray) -> None:
    events = itertools.islice(train(make_task(determinism=determinism), images), 4)
    losses, averages = [], {}
    for event in events:
        losses.append(event.loss)
        averages = event.state.ema.state_dict()
    expected, average = second_implementation(4, images)
    assert losses[0] == pytest.approx(expected[0], rel=1e-6)
    assert losses == pytest.approx(expected, rel=1e-4)
    # Adam turns the round-off of a gradient that is nearly zero into a full step: most weights, not all.
    near = [torch.isclose(averages[name], value, rtol=0, atol=2e-5) for name, value in average.items()]
    assert torch.cat([value.flatten() for value in near]).float().mean() > 0.9


def test_edms_loss_is_its_weighting_of_the_squared_error_of_the_denoiser(images: np.ndarray) -> None:
    task = make_task(loss=EDM(-1.9, 1.2))
    torch.manual_seed(task.seed)
    network = make_network(**task.network)
    parts = micro_batches(task, images, 0, range(4), torch.device("cpu"))
    x, sigma, z = (torch.cat([getattr(d, key) for d in parts]) for key in ("x", "sigma", "noise"))
    s = sigma[:, None, None, None]
    denoised = x + s * z + s**2 * network(x + s * z, sigma)
    weight = (sigma**2 + 0.25**2) / (sigma * 0.25) ** 2
    expected = (weight * (denoised - x).pow(2).sum((1, 2, 3))).mean()
    assert next(iter(train(task, images))).loss == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("determinism", ["bitwise", "fast"])
def test_in_bfloat16_the_losses_are_those_of_float32_to_a_few_thousandths(determinism: str, images: np.ndarray) -> None:
    full, mixed = (
        [event.loss for event in train(make_task(precision=p, determinism=determinism), images)]
        for p in ("float32", "bfloat16")
    )
    assert mixed != full
    assert mixed == pytest.approx(full, rel=5e-3)


def test_the_loss_falls(images: np.ndarray) -> None:
    losses = [event.loss for event in train(make_task(steps=30, log_every=30), images)]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_events_count_steps_and_images_and_rows_average_the_losses_between_them(images: np.ndarray) -> None:
    task = make_task(steps=7, log_every=3)
    events: list[Event] = list(train(task, images))
    assert [event.step for event in events] == list(range(1, 8))
    assert [event.images for event in events] == [16 * step for step in range(1, 8)]
    assert [event.step for event in events if event.row] == [3, 6, 7]
    rows = [event.row for event in events if event.row]
    losses = [event.loss for event in events]
    assert [row.loss for row in rows] == [sum(losses[:3]) / 3, sum(losses[3:6]) / 3, losses[6]]
    assert rows == curve(events[-1].state.losses, task)
    assert all(event.images_per_second > 0 for event in events)


def test_a_finished_state_does_no_step(images: np.ndarray) -> None:
    state = fresh(make_task())
    list(train(state.task, images, state=state))
    assert not list(train(state.task, images, state=state))


@pytest.mark.parametrize("determinism", ["bitwise", "fast"])
def test_a_loss_that_is_nan_stops_before_the_weights_change(determinism: str, images: np.ndarray) -> None:
    task = make_task(lr=1e30, determinism=determinism)
    state = fresh(task)
    with pytest.raises(DivergedError, match=r"at step 2: lower the recipe's optimizer\.lr \(1e\+30\)"):
        list(train(task, images, state=state))
    assert state.step == 1
    assert all(math.isfinite(loss) for loss in state.losses)


def test_too_few_images_are_refused(images: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"train\.batch_size"):
        next(iter(train(make_task(), make_images(3))))


def test_bitwise_computes_on_one_thread_and_gives_the_others_back(images: np.ndarray) -> None:
    torch.set_num_threads(2)
    events = train(make_task(steps=1), images)
    next(events)
    assert torch.get_num_threads() == 1
    events.close()
    assert torch.get_num_threads() == 2
