"""Search space of the sampler search: which sampler, on which levels, with which numbers.

What a proposal has follows from its kind (`SamplerSettings.searched`), so that what is learnt of a setting is
learnt from those that use it. All lie within the range of noise that the network was trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.ncsn import kinds
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.nfe import fitted
from pipeline.ncsn.sampler import ANALYTIC, Sampler, SamplerSettings
from pipeline.ncsn.samplers.langevin import Langevin
from pipeline.search import Categorical, Range
from pipeline.search.records import Settings

Bounds = Mapping[str, Sequence[float]]

COMMON = ("kind", "budget_share", "sigma_max", "sigma_min")
"""What every kind has besides its own `searched`."""

DRAWN_AS = {"budget_share": "spent"}
"""The name of version 1, see `Range.drawn_as`."""


@dataclass(frozen=True)
class Proposals:
    """What may be proposed for one network under one budget."""

    trained: Ladder
    """The ladder that the network was trained on."""
    max_nfe: int
    """Network evaluations for each sample, the last denoising included."""
    kinds: Sequence[str]
    conditional: bool = False
    """Whether the network knows the levels of its training only: kinds that sample on them."""

    def searched(self) -> dict[str, type[SamplerSettings]]:
        """The kinds that are tried: the analytic choice's, and those asked for that suit the network."""
        # Langevin is imported by name, since no parameter need name what every search begins with.
        found = {ANALYTIC: Langevin} | {kind: _kind(kind) for kind in self.kinds}
        return {kind: cls for kind, cls in found.items() if cls.on_trained_levels or not self.conditional}

    def sampler(self, settings: Settings) -> Sampler:
        """The sampler of a proposal: as many levels as the share of the budget has room for.

        Steps per level beyond what two levels leave room for are cut off. Step sizes are multiples of the
        analytic choice on the proposal's own ladder. What solves an ODE or corrects a prediction begins at
        the data's moments, Langevin dynamics as in their papers.

        Raises:
            UserError: the budget has no room for two levels, or for the levels of a conditional network.
        """
        cls, budget = _kind(settings["kind"]), self._budget(settings)
        if self.conditional:
            room = (self.max_nfe - 1) // self.trained.num_levels
            steps = min(settings["steps_per_level"], room)
            return cls.proposed(self.trained, {**settings, "steps_per_level": steps}, self.max_nfe)
        ends = settings["sigma_max"], settings["sigma_min"]
        return fitted(lambda levels: cls.proposed(Ladder(*ends, levels), settings, budget), budget)

    def _budget(self, settings: Settings) -> int:
        share: float = settings["budget_share"]
        return min(self.max_nfe, max(3, round(share * self.max_nfe)))

    def points(self) -> list[Settings]:
        """What theory chooses on the trained range (`SamplerSettings.theory`): first the analytic choice,
        technique 4 of NCSNv2 on the trained ladder; then each further kind, the ODE's solvers first."""
        found = self.searched()
        others = sorted(found.keys() - {ANALYTIC}, key=lambda kind: (not found[kind].karras, kind))
        ends = {"sigma_max": self.trained.sigma_max, "sigma_min": self.trained.sigma_min}
        return [
            {"kind": kind, **found[kind].theory(self.trained, self.max_nfe), **ends} for kind in (ANALYTIC, *others)
        ]

    def space(self, bounds: Bounds) -> dict[str, Range | Categorical]:
        """The search space, widened to hold `points`.

        Args:
            bounds: by the names of params.yaml's section `tune_sampler`: of budget_share and the kinds' own
                settings; of sigma_max_ratio and sigma_min_ratio as multiples of the trained ladder's. On a
                ladder so short that these two would meet, each stops short of its geometric middle.

        Raises:
            UserError: bounds that let the ladder leave the trained range, or a setting without bounds.
        """
        found = self.searched()
        users = _users(found)
        ends = {"budget_share": list(bounds["budget_share"])}
        ends |= {name: _bounds(name, bounds, found[kinds[0]]) for name, kinds in users.items()}
        if "steps_per_level" in ends:
            room = max(1, (self.max_nfe - 1) // 2)
            ends["steps_per_level"] = [min(bound, room) for bound in ends["steps_per_level"]]
        points, ranges = self.points(), {}
        for name, (low, high) in {**ends, **self._ends(bounds)}.items():
            values = [low, high, *(point[name] for point in points if name in point)]
            only = ("kind", users[name]) if name in users else None
            ranges[name] = Range(min(values), max(values), only=only, drawn_as=DRAWN_AS.get(name, ""))
        return {"kind": Categorical(tuple(found)), **ranges}

    def _ends(self, bounds: Bounds) -> dict[str, list[float]]:
        """Bounds of the ladder's ends, within the trained range."""
        _check(bounds)
        high = [bound * self.trained.sigma_max for bound in bounds["sigma_max_ratio"]]
        low = [bound * self.trained.sigma_min for bound in bounds["sigma_min_ratio"]]
        if low[1] >= high[0]:
            above, below = self._about_middle()
            high, low = [max(bound, above) for bound in high], [min(bound, below) for bound in low]
        return {"sigma_max": high, "sigma_min": low}

    def _about_middle(self) -> tuple[float, float]:
        """A little above and below the middle of the trained ladder, in logarithms."""
        low, high = self.trained.sigma_min, self.trained.sigma_max
        return low**0.45 * high**0.55, low**0.55 * high**0.45


def _kind(kind: str) -> type[SamplerSettings]:
    return kinds.find("samplers", kind)


def _users(found: Mapping[str, type[SamplerSettings]]) -> dict[str, list[str]]:
    """By setting, in the order in which they are drawn, the kinds that have it."""
    names = dict.fromkeys(name for cls in found.values() for name in cls.searched)
    return {name: [kind for kind, cls in found.items() if name in cls.searched] for name in names}


def _bounds(name: str, bounds: Bounds, cls: type[SamplerSettings]) -> list[float]:
    """Those of params.yaml, or else the kind's own."""
    given = bounds.get(name) or cls.searched[name].bounds
    if given is None:
        raise UserError(f"tune_sampler.{name} is missing: give its bounds there, or in {cls.__name__}.searched.")
    return list(given)


def _check(bounds: Bounds) -> None:
    if bounds["sigma_max_ratio"][1] > 1 or bounds["sigma_min_ratio"][0] < 1:
        raise UserError(
            "tune_sampler would sample at noise that the network was not trained on: keep sigma_max_ratio at "
            "most 1 and sigma_min_ratio at least 1."
        )
