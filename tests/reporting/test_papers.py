"""The papers' cells, against a second transcription of the tables in the papers' own layout."""

import pytest

from pipeline.reporting import papers

NCSN_TABLE_1 = """
PixelCNN | 4.60 | 65.93
PixelIQN | 5.29 | 49.46
EBM | 6.02 | 40.58
WGAN-GP | 7.86 ± .07 | 36.4
MoLM | 7.90 ± .10 | 18.9
SNGAN | 8.22 ± .05 | 21.7
ProgressiveGAN | 8.80 ± .05 | -
NCSN | 8.87 ± .12 | 25.32
EBM (conditional) | 8.30 | 37.9
SNGAN (conditional) | 8.60 ± .08 | 25.5
BigGAN (conditional) | 9.22 | 14.73
"""
NCSNV2_TABLE_1 = """
ncsn | False | 8.87 ± .12 | 25.32 | 26.89
ncsn | True | 7.32 ± .12 | 29.8 | 25.30
ncsnv2 | False | 8.73 ± .13 | 31.75 | 28.86
ncsnv2 | True | 8.40 ± .07 | 10.87 | 10.23
"""
LATER = """
consistent annealed sampling, best | 3.65 | -
DDPM | 3.17 | 9.46
NCSN++ cont. VE deep | 2.20 | 9.89
DDPM++ deep sub-VP, likelihood | 2.92 | -
EDM config F, unconditional, VP | 1.97 | -
EDM config F, unconditional, VE | 1.98 | -
EDM config F, conditional | 1.79 | -
"""


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


def test_ncsn_table_1() -> None:
    found = {row.model: [row.inception_score or "-", row.fid or "-"] for row in papers.published("cifar10", 32)}
    for model, *expected in cells(NCSN_TABLE_1):
        assert found[model] == expected


def test_ncsnv2_table_1() -> None:
    for row, denoised, score, cifar, celeba in cells(NCSNV2_TABLE_1):
        ours = papers.counterpart(papers.published("cifar10", 32), row, denoised == "True")
        assert ours is not None and (ours.inception_score, ours.fid) == (score, cifar)
        ours = papers.counterpart(papers.published("celeba", 64), row, denoised == "True")
        assert ours is not None and (ours.inception_score, ours.fid, ours.n) == (None, celeba, 10_000)


def test_later_anchors() -> None:
    found = {row.model: [row.fid or "-", row.inception_score or "-"] for row in papers.published("cifar10")}
    for model, *expected in cells(LATER):
        assert found[model] == expected


def test_nothing_else_is_claimed() -> None:
    models = {row[0] for row in cells(NCSN_TABLE_1) + cells(LATER)}
    denoised = {"NCSN, denoising", "NCSNv2", "NCSNv2, denoising"}
    assert {row.model for row in papers.published("cifar10")} == models | denoised
    assert len(papers.published("celeba64")) == 4


@pytest.mark.parametrize(("name", "size"), [("digits", 8), ("mnist", 28), ("fashion_mnist", 28), ("celeba", 32)])
def test_no_published_number(name: str, size: int) -> None:
    assert papers.published(name, size) == ()
