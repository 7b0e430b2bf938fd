"""The experiments of NCSN's first figures (arXiv 1907.05600, sections 3 and 4.3, appendix B.1).

Figure 1 needs images; 2 and 3 are in two dimensions, on 1/5 N((-5, -5), I) + 4/5 N((5, 5), I).
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save as serialised

from pipeline.toy.fig1 import LossCurve, loss_curves
from pipeline.toy.fig2 import ScoreFields, score_fields
from pipeline.toy.fig3 import Divergence, SamplePanel, divergences, panels

__all__ = [
    "Divergence",
    "LossCurve",
    "SamplePanel",
    "ScoreFields",
    "ToyResults",
    "divergences",
    "loss_curves",
    "panels",
    "run_toys",
    "score_fields",
]


ARRAYS = "arrays.safetensors"
"""The file of `ToyResults` in a folder."""
HEADLINE = {"langevin": "toy_langevin", "annealed_released": "toy_annealed"}


@dataclass(frozen=True)
class ToyResults:
    """Everything the three figures need."""

    curves: tuple[LossCurve, ...]
    fields: ScoreFields
    panels: tuple[SamplePanel, ...]
    divergences: tuple[Divergence, ...]
    losses: Mapping[str, Any]
    """Figure 1's setting, `toy.losses` of params.yaml."""

    def save(self, folder: Path) -> None:
        """Write all of it to one file in a folder: equal results, equal bytes."""
        arrays = {f"curve/{n}": curve.losses for n, curve in enumerate(self.curves)}
        arrays |= {f"field/{one.name}": getattr(self.fields, one.name) for one in fields(self.fields)}
        arrays |= {f"panel/{panel.name}": panel.samples for panel in self.panels}
        arrays |= {f"divergence/{one.name}": one.sizes for one in self.divergences}
        about = {
            "losses": dict(self.losses),
            "curves": [curve.sigma for curve in self.curves],
            "panels": [[panel.name, panel.fraction, panel.spread] for panel in self.panels],
            "divergences": [one.name for one in self.divergences],
        }
        contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        (folder / ARRAYS).write_bytes(serialised(contiguous, {"about": json.dumps(about)}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The inverse of `save`; raises FileNotFoundError where nothing was saved."""
        with safe_open(folder / ARRAYS, "numpy") as file:
            about = json.loads(file.metadata()["about"])
            array = file.get_tensor
            return cls(
                tuple(LossCurve(sigma, array(f"curve/{n}")) for n, sigma in enumerate(about["curves"])),
                ScoreFields(**{one.name: array(f"field/{one.name}") for one in fields(ScoreFields)}),
                tuple(SamplePanel(name, array(f"panel/{name}"), *rest) for name, *rest in about["panels"]),
                tuple(Divergence(name, array(f"divergence/{name}")) for name in about["divergences"]),
                about["losses"],
            )

    def metrics(self) -> dict[str, object]:
        """The numbers of the figures, ready for JSON."""
        return {
            "losses": {f"sigma_{c.sigma:g}": c.metrics() for c in self.curves},
            "score_squared_error": self.fields.squared_error(),
            "panels": {p.name: {"fraction": p.fraction, "spread": p.spread} for p in self.panels},
            "diverged": {d.name: {"level": d.level, "finite": d.finite} for d in self.divergences},
        }

    def headline(self) -> dict[str, float]:
        """What DVC compares: the share of samples in the heavier mode (in truth 0.8), by two ways to draw."""
        return {HEADLINE[p.name]: p.fraction for p in self.panels if p.name in HEADLINE}


def run_toys(
    images: np.ndarray,
    *,
    num_samples: int,
    steps: int,
    seed: int,
    losses: Mapping[str, Any],
) -> ToyResults:
    """All three figures.

    Args:
        images: of figure 1, uint8 (N, C, H, W); value v stands for v / 255.
        num_samples: in each panel of figure 3; 1,280 in the paper.
        steps: of training figure 2's network; 10,000 in the paper.
        seed: of everything random.
        losses: figure 1's setting, see `loss_curves`.

    Raises:
        UserError: images whose side is no multiple of 4.
    """
    with _one_thread():
        return ToyResults(
            loss_curves(images, **losses, seed=seed),
            score_fields(steps=steps, seed=seed),
            panels(num_samples=num_samples, seed=seed),
            divergences(num_samples=num_samples, seed=seed),
            losses,
        )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Tensors this small are slower on several threads, much slower next to other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
