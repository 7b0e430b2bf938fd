"""Self-test of the evaluator on known answers: closed forms, and sets against themselves."""

import dataclasses
from collections.abc import Iterator
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.fid import frechet_distance
from pipeline.metrics.inception_score import inception_score
from pipeline.metrics.kid import kernel_distance
from pipeline.metrics.neighbours import distance_ratio, nearest, prdc
from pipeline.ncsn.errors import UserError

Features = NDArray[np.floating[Any]]
_N, _DIM, _CLASSES = 200, 8, 10


class KnownAnswer(TypedDict):
    """Check as selftest.json has it; a value that is not finite is None."""

    name: str
    expected: float
    found: float | None
    tolerance: float
    passed: bool


@dataclasses.dataclass(frozen=True)
class Check:
    """Check of the evaluator against a known answer."""

    name: str
    expected: float
    found: float
    tolerance: float

    def plain(self) -> KnownAnswer:
        """The check and whether it passed, for JSON."""
        return {
            "name": self.name,
            "expected": self.expected,
            "found": self.found if np.isfinite(self.found) else None,
            "tolerance": self.tolerance,
            "passed": self.passed,
        }

    @property
    def passed(self) -> bool:
        """Whether the value found is within the tolerance."""
        return bool(abs(self.found - self.expected) <= self.tolerance)


def selftest(train: Features, held_out: Features) -> list[KnownAnswer]:
    """Check the evaluator on Gaussians, point masses and this data set's features (n, D) and (m, D).

    Raises:
        UserError: a check failed; all that did are named.
    """
    checks = [*_gaussians(), *_classes(), *_data(train, held_out)]
    failed = [f"{c.name} is {c.found:.6g}, not {c.expected:.6g}" for c in checks if not c.passed]
    if failed:
        raise UserError(
            f"the evaluator fails its self-test, so none of its numbers can be trusted: {'; '.join(failed)}. "
            "Rebuild the environment (delete .venv, run `make`); if that changes nothing, report it."
        )
    return [check.plain() for check in checks]


def _gaussians() -> Iterator[Check]:
    rng = np.random.default_rng(0)
    white = [_whitened(rng.standard_normal((n, _DIM))) for n in (_N, 2 * _N)]
    stds, mean = np.linspace(0.5, 2.5, _DIM), np.linspace(-1, 1, _DIM)
    shifted, distance = white[0] * stds + mean, float(mean @ mean + np.square(stds - 1).sum())
    yield Check("FID of two Gaussians of known moments", distance, frechet_distance(shifted, white[1]), 1e-9)
    a, b = rng.standard_normal((2, _DIM))
    masses = float(_kernel(a, a) + _kernel(b, b) - 2 * _kernel(a, b))
    found = kernel_distance(*(np.tile(x, (20, 1)) for x in (a, b)), subsets=2, subset_size=10, seed=0)[0]
    yield Check("KID of two point masses", masses, found, 1e-9 * abs(masses))
    kid, std = kernel_distance(*np.split(white[1], 2), subsets=50, subset_size=_N // 2, seed=0)
    yield Check("KID of two halves of one Gaussian", 0.0, kid, 2 * std)
    for key, value in prdc(white[0], white[0], nearest_k=5).items():
        yield Check(f"{key} of a set against itself", 1.0, value, 1e-12)
    for key, value in prdc(white[0] + 100, white[0], nearest_k=5).items():
        yield Check(f"{key} of disjoint sets", 0.0, value, 0.0)
    copies, fresh = (nearest(x, white[0], k=1)[0][:, 0] for x in (white[0][:50], white[1]))
    for name, distances, expected in (("copies", copies, 0.0), ("fresh data", fresh, 1.0)):
        ratio = distance_ratio(distances, fresh, seed=0)["ratio"]
        found = float("nan") if ratio is None else float(ratio)
        yield Check(f"memorisation ratio of {name}", expected, found, 0.0)


def _classes() -> Iterator[Check]:
    sure = np.eye(_CLASSES)[np.arange(_N) % _CLASSES]
    unsure = np.full((_N, _CLASSES), 1 / _CLASSES)
    for name, p, expected in (("all classes, each sure", sure, _CLASSES), ("none told apart", unsure, 1)):
        yield Check(f"inception score of {name}", expected, inception_score(p, splits=2)[0], 1e-9)


def _data(train: Features, held_out: Features) -> Iterator[Check]:
    scale = float(np.asarray(train, dtype=np.float64).var(axis=0).sum())
    yield Check("FID of train against itself", 0.0, frechet_distance(train, train), 1e-9 * scale)
    floor, rounding = _textbook(held_out, train), 1e-8 * scale * train.shape[1]  # where ranks are low
    yield Check("FID of held-out against train", floor, frechet_distance(held_out, train), rounding)


def _whitened(x: Features) -> Features:
    """Mean 0 and covariance 1 to round-off."""
    return np.asarray(np.linalg.qr(x - x.mean(axis=0))[0] * np.sqrt(len(x) - 1))


def _kernel(a: Features, b: Features) -> float:
    return float((a @ b / len(a) + 1) ** 3)


def _textbook(a: Features, b: Features) -> float:
    """FID through the eigenvalues of a product of covariances, the usual way; not that of `fid.distance`."""
    first, second = (np.cov(x.astype(np.float64), rowvar=False) for x in (a, b))
    values, vectors = np.linalg.eigh(first)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(0)).sum()
    apart = np.square(a.mean(axis=0, dtype=np.float64) - b.mean(axis=0, dtype=np.float64)).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * cross)
