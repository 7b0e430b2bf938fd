"""The settings that the sampler search tries: which sampler, on which levels, with which numbers.

Which settings a proposal has follows from its kind (`USES`), so that what is learnt of a setting is learnt
from those that use it. All lie within the range of noise that the network was trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.samplers.settings import Ladder, Sampler
from pipeline.search import Choice, Range
from pipeline.search.costs import fitted

Settings = Mapping[str, Any]
Bounds = Mapping[str, Any]

COMMON = ("kind", "spent", "sigma_max", "sigma_min")
USES: dict[str, tuple[str, ...]] = {
    "langevin": ("step_lr_ratio", "steps_per_level"),
    "consistent": ("step_lr_ratio",),
    "predictor_corrector": ("steps_per_level", "snr"),
    "euler": ("rho",),
    "heun": ("rho",),
    "stochastic_heun": ("rho", "churn"),
    "dpm_solver": ("rho",),
}
"""By kind, what it uses beside `COMMON`."""
EDM_RHO, EDM_NFE = 7.0, 35
"""Of EDM on CIFAR-10 (arXiv 2206.00364), where the search of a solver of the ODE begins."""


@dataclass(frozen=True)
class Proposals:
    """What may be proposed for one network under one budget."""

    trained: Ladder
    """The ladder that the network was trained on."""
    max_nfe: int
    """Network evaluations for each sample, the last denoising included."""
    kinds: Sequence[str]
    conditional: bool = False
    """Whether the network knows the levels of its training only: Langevin dynamics on them."""

    def sampler(self, settings: Settings) -> Sampler:
        """The sampler of a proposal: as many levels as the share `spent` of the budget has room for.

        Steps per level beyond what two levels leave room for are cut off. Step sizes are multiples of the
        analytic choice on the proposal's own ladder. What solves an ODE or corrects a prediction begins at
        the data's moments, Langevin dynamics as in their papers.

        Raises:
            UserError: the budget has no room for two levels, or for the levels of a conditional network.
        """
        budget = min(self.max_nfe, max(3, round(settings["spent"] * self.max_nfe)))
        if self.conditional:
            steps = min(settings["steps_per_level"], (self.max_nfe - 1) // self.trained.num_levels)
            return Sampler.analytic(self.trained, steps, settings["step_lr_ratio"])
        return fitted(lambda levels: self._at(levels, settings, budget), budget)

    def _at(self, levels: int, settings: Settings, budget: int) -> Sampler:
        kind, ends = settings["kind"], (settings["sigma_max"], settings["sigma_min"], levels)
        steps = min(settings.get("steps_per_level", 1), (budget - (kind == "langevin")) // 2)
        geometric = Ladder(*ends)
        if kind == "langevin":
            return Sampler.analytic(geometric, steps, settings["step_lr_ratio"])
        if kind == "consistent":
            options = {"step_lr": _consistent_step(geometric, settings["step_lr_ratio"])}
            return Sampler(kind, geometric, options, start="data")
        if kind == "predictor_corrector":
            return Sampler(kind, geometric, _corrected(steps, settings["snr"]), start="data")
        churn = {"churn": settings["churn"]} if kind == "stochastic_heun" else {}
        return Sampler(kind, Ladder(*ends, rho=settings["rho"]), churn, start="data")

    def points(self) -> list[dict[str, Any]]:
        """What theory and papers choose: technique 4 of NCSNv2 on the trained ladder with as many steps as
        the budget allows; then each further kind that is searched, solvers with EDM's rho and cost (and
        churn), the predictor with one corrector at its paper's snr (arXiv 2011.13456)."""
        steps = max(1, (self.max_nfe - 1) // self.trained.num_levels)
        used = min(steps * self.trained.num_levels + 1, self.max_nfe)
        first = {
            **{"kind": "langevin", "step_lr_ratio": 1.0, "steps_per_level": steps},
            **{"sigma_max": self.trained.sigma_max, "sigma_min": self.trained.sigma_min},
            **{"spent": used / self.max_nfe, "snr": 0.16, "churn": 30.0, "rho": EDM_RHO},
        }
        solver = {"spent": min(1.0, EDM_NFE / self.max_nfe)}
        others: dict[str, dict[str, Any]] = {
            **dict.fromkeys(("dpm_solver", "heun", "stochastic_heun", "euler"), solver),
            "predictor_corrector": {"spent": 1.0, "steps_per_level": min(2, (self.max_nfe - 1) // 2)},
            "consistent": {"spent": 1.0},
        }
        kinds = [] if self.conditional else [kind for kind in others if kind in self.kinds]
        return [_used(first), *(_used({**first, "kind": kind, **others[kind]}) for kind in kinds)]

    def space(self, bounds: Bounds) -> dict[str, Range | Choice]:
        """The search space, widened to hold `points`.

        Args:
            bounds: of spent, steps_per_level, snr, churn and rho; of step_lr as a multiple of the analytic
                choice; of sigma_max and sigma_min as multiples of the trained ladder's. On a ladder so
                short that these two would meet, each stops short of its geometric middle.

        Raises:
            UserError: bounds that let the ladder leave the trained range.
        """
        ends = {name: list(bounds[name]) for name in ("spent", "steps_per_level", "snr", "churn", "rho")}
        ends["step_lr_ratio"] = list(bounds["step_lr"])
        ends["sigma_max"] = [bound * self.trained.sigma_max for bound in bounds["sigma_max"]]
        ends["sigma_min"] = [bound * self.trained.sigma_min for bound in bounds["sigma_min"]]
        _check(bounds)
        if ends["sigma_min"][1] >= ends["sigma_max"][0]:
            above, below = self._about_middle()
            ends["sigma_max"] = [max(bound, above) for bound in ends["sigma_max"]]
            ends["sigma_min"] = [min(bound, below) for bound in ends["sigma_min"]]
        room = max(1, (self.max_nfe - 1) // 2)
        ends["steps_per_level"] = [min(bound, room) for bound in ends["steps_per_level"]]
        points = self.points()
        kinds = ("langevin",) if self.conditional else tuple(dict.fromkeys(("langevin", *self.kinds)))
        ranges = {}
        for name, (low, high) in ends.items():
            values = [low, high, *(point[name] for point in points if name in point)]
            users = [kind for kind in kinds if name in USES[kind]]
            ranges[name] = Range(min(values), max(values), only=None if name in COMMON else ("kind", users))
        return {"kind": Choice(kinds), **ranges}

    def _about_middle(self) -> tuple[float, float]:
        """A little above and below the middle of the trained ladder, in logarithms."""
        low, high = self.trained.sigma_min, self.trained.sigma_max
        return low**0.45 * high**0.55, low**0.55 * high**0.45


def _used(settings: Settings) -> dict[str, Any]:
    """The settings that the proposal's kind has, in their order."""
    looked_at = {*COMMON, *USES[settings["kind"]]}
    return {name: value for name, value in settings.items() if name in looked_at}


def _consistent_step(ladder: Ladder, ratio: float) -> float:
    """A multiple of sigma_L^2 (1 - gamma^2), within the bounds that consistent sampling has."""
    sigmas = ladder.sigmas().tolist()
    gamma, unit = sigmas[1] / sigmas[0], sigmas[-1] ** 2
    inside = (1 - gamma) * 1.001, (1 + gamma) * 0.999
    return float(unit * min(max(ratio * (1 - gamma**2), inside[0]), inside[1]))


def _corrected(evaluations: int, snr: float) -> dict[str, Any]:
    """So many evaluations a level, the predictor's among them; without a corrector snr does not matter."""
    correctors = evaluations - 1
    plain = {"predictor": "ancestral", "corrector": "annealed"}
    return {**plain, "corrector_steps": correctors, "snr": snr if correctors else 0.0}


def _check(bounds: Bounds) -> None:
    if bounds["sigma_max"][1] > 1 or bounds["sigma_min"][0] < 1:
        raise UserError(
            "tune_sampler would sample at noise that the network was not trained on: keep sigma_max at most "
            "1 and sigma_min at least 1, in multiples of the trained ladder's."
        )
