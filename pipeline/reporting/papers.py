"""Papers' tables as data. Cells are kept as the papers print them, so that a report quotes verbatim.

References:
    [1] Song & Ermon, Generative Modeling by Estimating Gradients of the Data Distribution,
        NeurIPS 2019, arXiv 1907.05600, Table 1.
    [2] Song & Ermon, Improved Techniques for Training Score-Based Generative Models,
        NeurIPS 2020, arXiv 2006.09011, Table 1.
"""

from dataclasses import dataclass
from typing import Literal

NCSN = "arXiv 1907.05600, Table 1"
NCSNV2 = "arXiv 2006.09011, Table 1"
CONSISTENT = "arXiv 2009.05475"
DDPM = "arXiv 2006.11239"
SDE = "arXiv 2011.13456"
EDM = "arXiv 2206.00364"
MINIMUM = "minimum of three FIDs"
NETWORKS = {"ncsn": "ncsn", "ncsnv2": "ncsnv2"}
"""The network of each row of ours that a paper has."""


@dataclass(frozen=True)
class Published:
    """Published row of a paper's table. Cells are strings as printed; None where the paper prints nothing."""

    model: str
    source: str
    inception_score: str | None = None
    """Inception score, "mean ± standard deviation over splits" where the paper gives a spread."""
    fid: str | None = None
    n: int | None = None
    """Samples behind the FID, where the paper states it."""
    nfe: str | None = None
    """Network evaluations per sample, where stated."""
    note: str | None = None
    row: str | None = None
    """The row of ours that reproduces this one."""
    reference: Literal["train", "test"] = "train"
    """The split that the FID is against."""
    denoised: bool | None = None
    """Whether the row includes the last denoising step; None where it does not apply."""


_CIFAR10 = (
    Published("PixelCNN", NCSN, "4.60", "65.93"),
    Published("PixelIQN", NCSN, "5.29", "49.46"),
    Published("EBM", NCSN, "6.02", "40.58"),
    Published("WGAN-GP", NCSN, "7.86 ± .07", "36.4"),
    Published("MoLM", NCSN, "7.90 ± .10", "18.9"),
    Published("SNGAN", NCSN, "8.22 ± .05", "21.7"),
    Published("ProgressiveGAN", NCSN, "8.80 ± .05"),
    Published("EBM (conditional)", NCSN, "8.30", "37.9"),
    Published("SNGAN (conditional)", NCSN, "8.60 ± .08", "25.5"),
    Published("BigGAN (conditional)", NCSN, "9.22", "14.73"),
    Published("NCSN", NCSN, "8.87 ± .12", "25.32", n=50_000, row="ncsn", denoised=False),
    Published("NCSN, denoising", NCSNV2, "7.32 ± .12", "29.8", row="ncsn", denoised=True),
    Published("NCSNv2", NCSNV2, "8.73 ± .13", "31.75", row="ncsnv2", denoised=False),
    Published("NCSNv2, denoising", NCSNV2, "8.40 ± .07", "10.87", row="ncsnv2", denoised=True),
    Published("consistent annealed sampling, best", CONSISTENT, fid="3.65"),
    Published("DDPM", DDPM, "9.46", "3.17", nfe="1000"),
    Published("NCSN++ cont. VE deep", SDE, "9.89", "2.20", nfe="about 2000"),
    Published("DDPM++ deep sub-VP, likelihood", SDE, fid="2.92", note="2.99 bits/dim"),
    Published("EDM config F, unconditional, VP", EDM, fid="1.97", n=50_000, nfe="35", note=MINIMUM),
    Published("EDM config F, unconditional, VE", EDM, fid="1.98", n=50_000, nfe="35", note=MINIMUM),
    Published("EDM config F, conditional", EDM, fid="1.79", n=50_000, nfe="35", note=MINIMUM),
)

_CELEBA64 = tuple(
    Published(model, NCSNV2, fid=fid, n=10_000, row=row, denoised=denoised, reference="test")
    for model, fid, row, denoised in (
        ("NCSN", "26.89", "ncsn", False),
        ("NCSN, denoising", "25.30", "ncsn", True),
        ("NCSNv2", "28.86", "ncsnv2", False),
        ("NCSNv2, denoising", "10.23", "ncsnv2", True),
    )
)

TABLES: dict[str, tuple[Published, ...]] = {"cifar10": _CIFAR10, "celeba64": _CELEBA64}
"""Data set -> the published rows; a data set that is not a key has no published number."""

TERMS = {
    _CIFAR10: "NCSN and NCSNv2 measure FID against the train statistics",
    _CELEBA64: "FID is of 10,000 samples against the test set",
}
"""Terms on which a table's FIDs were measured."""


def published(data: str, image_size: int | None = None) -> tuple[Published, ...]:
    """The published rows of a data set: looked up as `data` and as `data` + `image_size`; () where none."""
    return TABLES.get(data) or TABLES.get(f"{data}{image_size}", ())


def counterpart(papers: tuple[Published, ...], row: str, denoised: bool) -> Published | None:
    """The published row that ours, with or without the last denoising step, reproduces."""
    return next((paper for paper in papers if (paper.row, paper.denoised) == (row, denoised)), None)
