"""The classifier's network for every size of image, and the shift by a pixel."""

import pytest
import torch

from pipeline.metrics.features.classifier import FeatureNetwork, shift


@pytest.mark.parametrize(("channels", "image_size"), [(1, 3), (1, 8), (1, 28), (3, 32), (3, 64)])
def test_shapes(channels, image_size):
    network = FeatureNetwork(channels=channels, image_size=image_size, num_classes=7, width=4).eval()
    images = torch.zeros(2, channels, image_size, image_size, dtype=torch.uint8)
    assert network(images).shape == (2, 7)
    assert network.features(images).shape == (2, 64)


def test_shift_moves_each_image_by_its_own_offset():
    images = torch.zeros(3, 2, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 3] = 9
    images[:, :, 0, 0] = 4
    moved = shift(images, torch.tensor([[1, 1], [0, 2], [2, 1]]))
    assert moved.dtype == torch.uint8
    assert torch.equal(moved[0], images[0])
    assert moved[1].nonzero().tolist() == [[0, 1, 4], [1, 1, 4]]  # the corner left by the top
    assert moved[2].nonzero().tolist() == [[0, 1, 0], [0, 3, 3], [1, 1, 0], [1, 3, 3]]
