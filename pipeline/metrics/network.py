"""The classifier whose penultimate layer is the feature space."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_FEATURES = 64


def _block(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


def _body(channels: int, image_size: int, width: int) -> list[nn.Module]:
    """Two convolutions a resolution, halved until at most 4 pixels are left, then a layer of 64."""
    layers = _block(channels, width) + _block(width, width)
    last = width
    while image_size > 4:
        image_size, channels, last = (image_size + 1) // 2, last, min(2 * last, 4 * width)
        layers += [nn.AvgPool2d(2, ceil_mode=True), *_block(channels, last), *_block(last, last)]
    return [*layers, nn.Flatten(), nn.Linear(last * image_size**2, NUM_FEATURES), nn.ReLU()]


class FeatureNetwork(nn.Module):
    """A small convolutional classifier of uint8 images (B, C, H, H).

    `forward` gives the logits (B, K) and `features` the penultimate layer (B, 64), shifted and
    divided by one number for all of them, so that over the training images their mean is 0 and
    their variance 1 on average: the unit in which FID and KID are told, else the whim of a training.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, *, channels: int, image_size: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_body(channels, image_size, width))
        self.head = nn.Linear(NUM_FEATURES, num_classes)
        self.register_buffer("centre", torch.zeros(NUM_FEATURES))
        self.register_buffer("scale", torch.ones(()))

    def penultimate(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, H) -> (B, 64) before shift and scale."""
        return self.body(images.float() / 127.5 - 1)  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, H) -> (B, 64)."""
        return (self.penultimate(images) - self.centre) / self.scale

    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (B, C, H, H) -> logits (B, K)."""
        return self.head(self.penultimate(images))  # type: ignore[no-any-return]


def shift(images: Tensor, offsets: Tensor) -> Tensor:
    """Move image i of (B, C, H, W) by `offsets[i]` - 1 pixels (rows, columns), offsets in {0, 1, 2}.

    What comes in at the border is black. Returns (B, C, H, W).
    """
    batch, _, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1))
    example = torch.arange(batch)[:, None, None]
    rows = (2 - offsets[:, :1] + torch.arange(height))[:, :, None]
    columns = (2 - offsets[:, 1:] + torch.arange(width))[:, None, :]
    return padded[example, :, rows, columns].permute(0, 3, 1, 2)
