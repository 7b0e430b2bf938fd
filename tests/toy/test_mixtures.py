"""The exact oracle: scores are gradients of densities, which integrate to one and describe the samples."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from pipeline.ncsn.errors import UserError
from pipeline.toy.mixture import GaussianMixture, Noisy

MEANS = torch.tensor([[-2.0, 0.5], [1.0, 1.0], [0.0, -3.0]], dtype=torch.float64)
WEIGHTS = (0.2, 0.5, 0.3)


def points(n: int = 20) -> Tensor:
    return 3 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("noisy", ["convolution", "released"])
def test_the_score_is_the_gradient_of_the_log_density(noisy: Noisy) -> None:
    mixture = GaussianMixture(WEIGHTS, MEANS, 0.7, noisy=noisy)
    x = points().requires_grad_()
    sigma = torch.linspace(0.1, 5, len(x), dtype=x.dtype)
    (gradient,) = torch.autograd.grad(mixture.log_prob(x, sigma).sum(), x)
    torch.testing.assert_close(mixture.score(x, sigma), gradient)


@pytest.mark.parametrize(("noisy", "std"), [("convolution", (0.7**2 + 1.3**2) ** 0.5), ("released", 1.3)])
def test_the_density_is_that_of_torchs_mixture(noisy: Noisy, std: float) -> None:
    components = Independent(Normal(MEANS, torch.full_like(MEANS, std)), 1)
    other = MixtureSameFamily(Categorical(torch.tensor(WEIGHTS, dtype=torch.float64)), components)
    mixture = GaussianMixture(WEIGHTS, MEANS, 0.7, noisy=noisy)
    torch.testing.assert_close(mixture.log_prob(points(), 1.3), other.log_prob(points()))


def test_noise_of_the_convolution_is_noise_added_to_samples() -> None:
    """The moments of x + sigma z, and of samples drawn at sigma."""
    mixture = GaussianMixture(WEIGHTS, MEANS, 0.7)
    clean = mixture.sample(100_000, torch.Generator().manual_seed(0))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1), dtype=clean.dtype)
    noisy = mixture.sample(100_000, torch.Generator().manual_seed(2), sigma=1.3)
    torch.testing.assert_close((clean + 1.3 * noise).T.cov(), noisy.T.cov(), rtol=0.03, atol=0.03)
    torch.testing.assert_close(noisy.mean(0), torch.tensor(WEIGHTS).double() @ MEANS, rtol=0, atol=0.03)


def test_the_released_law_at_its_own_std_is_the_clean_one() -> None:
    clean, released = (
        GaussianMixture(WEIGHTS, MEANS, 0.7),
        GaussianMixture(WEIGHTS, MEANS, 0.7, noisy="released"),
    )
    torch.testing.assert_close(clean.log_prob(points()), released.log_prob(points(), 0.7))
    assert not torch.allclose(clean.log_prob(points(), 0.7), released.log_prob(points(), 0.7))


def test_images_are_points() -> None:
    flat = GaussianMixture(WEIGHTS, torch.randn(3, 8, generator=torch.Generator().manual_seed(0)), 0.5)
    images = GaussianMixture(WEIGHTS, flat.means.view(3, 2, 2, 2), 0.5)
    x = torch.rand(6, 2, 2, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(images.score(x, 0.3), flat.score(x.flatten(1), 0.3).view_as(x))
    assert images.sample(5, torch.Generator().manual_seed(0)).shape == (5, 2, 2, 2)


def test_modes_have_the_weights_of_the_mixture() -> None:
    mixture = GaussianMixture(WEIGHTS, 10 * MEANS, 0.5)
    modes = mixture.mode(mixture.sample(50_000, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(modes.bincount() / 50_000, torch.tensor(WEIGHTS), rtol=0, atol=0.01)


def test_responsibilities_are_posterior_probabilities() -> None:
    mixture = GaussianMixture(WEIGHTS, MEANS, 0.7)
    found = mixture.responsibilities(points(), 0.5)
    joint = torch.stack([GaussianMixture([1], m[None], 0.7).log_prob(points(), 0.5).exp() for m in MEANS], dim=1)
    joint = joint * torch.tensor(WEIGHTS, dtype=joint.dtype)
    torch.testing.assert_close(found, joint / joint.sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("weights", "std", "noisy", "named"),
    [
        ((0.5, 0.5), 1.0, "convolution", "weights"),
        ((0.5, 0.5, 0.0), 1.0, "convolution", "weights"),
        (WEIGHTS, 0.0, "convolution", "std is 0.0"),
        (WEIGHTS, 1.0, "blurred", "noisy is 'blurred'"),
    ],
)
def test_a_bad_mixture_is_refused(weights: tuple[float, ...], std: float, noisy: Noisy, named: str) -> None:
    with pytest.raises(UserError, match=named):
        GaussianMixture(weights, MEANS, std, noisy=noisy)
