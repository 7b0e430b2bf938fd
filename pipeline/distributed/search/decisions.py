"""What is tried and what is stopped: a pure function of the earlier trials' results, in a fixed order.

Trial t is proposed and judged by what trials 1 ... t - max_concurrent showed, whichever finished first, so a
search repeats itself digit for digit at any `max_concurrent`. (Ray's own ASHA judges in the order of
arrival: at two trials at a time its stops differ between runs.) Trials are named by their place, from 0.

References: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), arXiv 1810.05934;
Bergstra et al., Algorithms for Hyper-Parameter Optimization (TPE), NeurIPS 2011.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import optuna

from pipeline.distributed.search.space import Budget, Space
from pipeline.distributed.search.trials import Settings


class Proposer:
    """Settings by a seeded sampler of Optuna: first `points`, then a few random ones, then by what was seen.

    It is told results in the order of proposal, each exactly `max_concurrent` proposals later.
    """

    def __init__(self, space: Space, points: Sequence[Settings], budget: Budget) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._lag = budget.max_concurrent
        self._space = space
        self._study = optuna.create_study(sampler=_sampler(len(points), budget))
        for point in points:
            self._study.enqueue_trial(dict(point))
        self._asked: list[optuna.trial.Trial] = []
        self._values: dict[int, float] = {}

    def ask(self) -> Settings | None:
        """The next trial's settings; None as long as a result is missing that it must follow from."""
        due = len(self._asked) - self._lag
        if due >= 0:
            if due not in self._values:
                return None
            self._study.tell(self._asked[due], self._values[due])
        self._asked.append(self._study.ask())
        for name, bounds in self._space.items():
            bounds.suggest(self._asked[-1], name)
        return dict(self._asked[-1].params)

    def tell(self, place: int, value: float) -> None:
        """What a trial ended with; infinity if it failed: Optuna forgets failures and goes there again."""
        self._values[place] = value


def _sampler(points: int, budget: Budget) -> optuna.samplers.BaseSampler:
    if budget.algorithm == "random":
        return optuna.samplers.RandomSampler(seed=budget.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=budget.seed,
            n_startup_trials=points + max(2, budget.num_trials // 5),
            constant_liar=budget.max_concurrent > 1,  # keeps away from trials whose result it cannot know yet
        )


class Halving:
    """ASHA's rule: a trial goes on if it is among the best 1 in `reduction_factor` known at its rung."""

    def __init__(self, budget: Budget) -> None:
        self._lag, self._factor = budget.max_concurrent, budget.reduction_factor
        self._seen: list[dict[int, float]] = [{} for _ in budget.rungs]

    def stops(self, place: int, rung: int, value: float) -> bool:
        """Whether the trial at `place` ends at a rung, from 0; `value` is remembered for later trials."""
        seen = self._seen[rung]
        known = [other for earlier, other in seen.items() if earlier <= place - self._lag]
        seen[place] = value
        return bool(known) and value > float(np.quantile(known, 1 / self._factor))
