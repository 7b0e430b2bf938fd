"""Bits of small pieces of each stage on this processor, with portable or native kernels.

    python -m benchmarks.bits portable

Prints torch's instruction set, then a piece and the SHA-256 of its result in each line: a classifier's
training, FID in its features, two optimiser steps of each network.
`python -m benchmarks.processors` compares them between processors.
"""

import hashlib
import sys

import numpy as np
import torch
from torch import Tensor

from pipeline import kernels
from pipeline.metrics.features.classifier import Classifier, train_classifier
from pipeline.metrics.fid import frechet_distance
from pipeline.ncsn.losses import denoising_score_matching
from pipeline.ncsn.networks import make_network
from pipeline.ncsn.noise import geometric_sigmas

IMAGES = np.random.default_rng(0).integers(0, 256, (96, 1, 8, 8), np.uint8)
SIGMAS = geometric_sigmas(1.0, 0.01, 10)


def main() -> None:
    kernels.choose("portable" if sys.argv[1:] == ["portable"] else "native")
    torch.set_num_threads(1)
    sys.stdout.write(f"{torch.backends.cpu.get_cpu_capability()}\n")
    space = train_classifier((IMAGES, np.arange(96) % 3), Classifier(8, 2, 32, 2e-3, 0, 0.0))
    features = space.features(IMAGES)
    _tell("classifier", *space.network.state_dict().values())
    _tell("fid", np.float64(frechet_distance(features[:48], features[48:])))
    for kind in ("ncsn", "ncsnv2", "unet"):
        _tell(kind, *_steps(kind).state_dict().values())


def _steps(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    network = make_network(kind, channels=1, image_size=8, width=16, sigmas=SIGMAS)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x = torch.from_numpy(IMAGES[:32]).float() / 255
    for _ in range(2):
        optimizer.zero_grad()
        loss = denoising_score_matching(network, x, SIGMAS[torch.arange(32) % 10], torch.randn_like(x)).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network


def _tell(piece: str, *values: Tensor | np.float64) -> None:
    digest = hashlib.sha256(b"".join(np.asarray(value).tobytes() for value in values))
    sys.stdout.write(f"{piece} {digest.hexdigest()}\n")


if __name__ == "__main__":
    main()
