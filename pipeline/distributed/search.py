"""A search over short trials: Optuna's seeded TPE proposes, successive halving stops, Ray Tune runs.

A trial is a plain generator `trial(settings, **shared)` that yields its metrics once at every rung; it knows
nothing of Ray. One worker runs trial after trial (Tune's `reuse_actors`), so that a trial costs milliseconds
over its own work instead of the seconds that a fresh process takes to import torch.

Decisions are taken in a fixed order: trial t is proposed and judged by what trials 1 ... t - max_concurrent
showed, whichever finished first, so a search repeats itself digit for digit at any `max_concurrent`. (Ray's
own ASHA judges in the order of arrival: at two trials at a time its stops differ between runs.)

References: Li et al., A System for Massively Parallel Hyperparameter Tuning (ASHA), arXiv 1810.05934;
Bergstra et al., Algorithms for Hyper-Parameter Optimization (TPE), NeurIPS 2011.
"""

import logging
import math
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from pipeline.distributed.trials import FAILED, FINISHED, STOPPED, Record, Settings, best
from pipeline.errors import UserError

# Read by Ray when a search starts: no result files, no tables, and Ctrl-C ends the search at once instead of
# returning the trials so far as if they were all.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "60")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")

import numpy as np
import optuna
import ray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

logger = logging.getLogger(__name__)

Trial = Callable[..., Iterator[Mapping[str, float]]]


@dataclass(frozen=True)
class Range:
    """Bounds of one setting, both included; searched on a logarithmic scale, in integers if both are."""

    lower: float
    upper: float

    def distribution(self) -> BaseDistribution:
        """The range as Optuna's distribution."""
        if isinstance(self.lower, int) and isinstance(self.upper, int):
            return IntDistribution(self.lower, self.upper, log=True)
        return FloatDistribution(self.lower, self.upper, log=True)


@dataclass(frozen=True)
class Choice:
    """A setting without an order, such as the name of a sampler."""

    values: tuple[str, ...]

    def distribution(self) -> BaseDistribution:
        """The choice as Optuna's distribution."""
        return CategoricalDistribution(self.values)


Space = Mapping[str, Range | Choice]


@dataclass(frozen=True)
class Budget:
    """How much a search may try."""

    num_trials: int
    rungs: Sequence[int]
    """The amounts of steps or samples at which a trial is judged; it yields once for each."""
    reduction_factor: int
    """Of the trials at a rung, the best in so many goes on."""
    max_concurrent: int
    """Trials at a time; more is faster, but a trial knows less of those before it."""
    seed: int

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """From a mapping that holds these keys and others, such as a section of params.yaml."""
        return cls(**{name: plain[name] for name in cls.__dataclass_fields__})


def search(
    trial: Trial,
    space: Space,
    *,
    metric: str,
    budget: Budget,
    points: Sequence[Settings] = (),
    shared: Mapping[str, Any] | None = None,
    resources: Mapping[str, float] | None = None,
    on_trial: Callable[[Record], None] | None = None,
) -> list[Record]:
    """Search `space` for the settings with the smallest `metric`, on the Ray that is connected.

    The same arguments give the same trials and metrics. A trial that raises, whose metric is not finite or
    whose process dies is recorded as failed, and the search goes on.

    Args:
        trial: called as `trial(settings, **shared)`; yields a mapping that holds `metric` at each rung.
        points: settings tried first, in this order.
        shared: large constants, put into Ray's object store once.
        resources: of each trial, e.g. `{"cpu": 2}`.
        on_trial: called here, in the caller's process, with each record as its trial ends.

    Returns:
        One record per trial, in the order of proposal.

    Raises:
        UserError: every trial failed; the message holds the first reason.
    """
    observer = _Observer(metric, budget, on_trial)
    runnable = tune.with_parameters(
        _run, trial=trial, metric=metric, budget=budget, shared=dict(shared or {})
    )
    # Tune would start the process of one trial after the other's, and never a second one for short trials.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(budget.max_concurrent)
    with tempfile.TemporaryDirectory(prefix="ncsn-search-") as folder:
        tune.Tuner(
            tune.with_resources(runnable, dict(resources or {"cpu": 1})),
            tune_config=tune.TuneConfig(
                num_samples=budget.num_trials,
                reuse_actors=True,
                search_alg=_Proposer(space, points, metric, budget),
                scheduler=_Halving(metric, budget),
            ),
            run_config=tune.RunConfig(name="search", storage_path=folder, verbose=0, callbacks=[observer]),
        ).fit()
    return _checked(sorted(observer.records, key=lambda record: record.trial), budget)


def resources(max_concurrent: int, use_gpu: bool) -> dict[str, float]:
    """What Ray reserves for a trial: a CPU, and where GPUs are used so much of one that all trials fit."""
    if not use_gpu:
        return {"cpu": 1}
    gpus = ray.cluster_resources()["GPU"]  # type: ignore[no-untyped-call]
    return {"cpu": 1, "gpu": 1 / math.ceil(max_concurrent / gpus)}


def _run(settings: Settings, trial: Trial, metric: str, budget: Budget, shared: Mapping[str, Any]) -> None:
    """One trial in its worker: report every rung, and a failure as the worst value instead of an exception.

    An exception would cost the worker process, and TPE ignores failed trials: it would go there again.
    """
    try:
        for rung, metrics in enumerate(trial(dict(settings), **shared)):
            if not math.isfinite(metrics[metric]):
                raise FloatingPointError(f"{metric} is {metrics[metric]} at rung {rung + 1}")
            tune.report({metric: float(metrics[metric]), "rung": rung, "metrics": dict(metrics)})
    except Exception as error:
        tune.report({metric: math.inf, "reason": f"{type(error).__name__}: {error}"})


class _Proposer(Searcher):
    """Seeded TPE that first proposes `points`, then a few random ones, then by what it has seen.

    It is told results in the order of proposal, each exactly `max_concurrent` proposals later.
    """

    def __init__(self, space: Space, points: Sequence[Settings], metric: str, budget: Budget) -> None:
        super().__init__(metric=metric, mode="min")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._lag = budget.max_concurrent
        self._asked: list[str] = []
        self._results: dict[str, tuple[dict[str, Any] | None, bool]] = {}
        self._optuna = OptunaSearch(
            {name: bounds.distribution() for name, bounds in space.items()},
            metric=metric,
            mode="min",
            points_to_evaluate=[dict(point) for point in points],
            sampler=_sampler(len(points) + max(2, budget.num_trials // 5), budget),
        )

    def suggest(self, trial_id: str) -> Settings | None:
        due = len(self._asked) - self._lag
        if due >= 0:
            if self._asked[due] not in self._results:
                return None  # Tune asks again
            self._optuna.on_trial_complete(self._asked[due], *self._results[self._asked[due]])
        self._asked.append(trial_id)
        return self._optuna.suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._results[trial_id] = (result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a search that was cut off begins anew."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a search that was cut off begins anew")


def _sampler(random_trials: int, budget: Budget) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=budget.seed,
            n_startup_trials=random_trials,
            constant_liar=budget.max_concurrent > 1,  # keeps away from trials whose result it cannot know yet
        )


class _Halving(FIFOScheduler):
    """ASHA's rule: a trial goes on if it is among the best 1 in `reduction_factor` known at its rung."""

    def __init__(self, metric: str, budget: Budget) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._objective, self._budget = metric, budget
        self._index: dict[str, int] = {}
        self._seen: list[dict[int, float]] = [{} for _ in budget.rungs]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._index[trial.trial_id] = len(self._index)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "reason" in result:  # failed: no competitor
            return TrialScheduler.CONTINUE
        index, seen, value = self._index[trial.trial_id], self._seen[result["rung"]], result[self._objective]
        known = [other for place, other in seen.items() if place <= index - self._budget.max_concurrent]
        seen[index] = value
        stop = known and value > np.quantile(known, 1 / self._budget.reduction_factor)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


def _checked(records: list[Record], budget: Budget) -> list[Record]:
    if len(records) != budget.num_trials:
        raise RuntimeError(f"the search ended after {len(records)} of {budget.num_trials} trials")
    if all(record.status == FAILED for record in records):
        raise UserError(
            f"All {len(records)} trials of the search failed, the first with: {records[0].reason}. "
            "Mend that, or narrow the bounds of the search in params.yaml."
        )
    return records


class _Observer(tune.Callback):
    """Turns Tune's events into records, one line of progress each."""

    def __init__(self, metric: str, budget: Budget, on_trial: Callable[[Record], None] | None) -> None:
        self.records: list[Record] = []
        self._metric, self._budget, self._on_trial = metric, budget, on_trial
        self._live: dict[str, Record] = {}
        self._started: dict[str, float] = {}
        self._begin = time.monotonic()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._live[trial.trial_id] = Record(trials.index(trial) + 1, dict(trial.config))
        self._started[trial.trial_id] = time.monotonic()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record = self._live[trial.trial_id]
        if "reason" in result:
            self._live[trial.trial_id] = replace(record, status=FAILED, reason=result["reason"])
            return
        rungs = (*record.rungs, result["metrics"])
        status = FINISHED if len(rungs) == len(self._budget.rungs) else STOPPED
        self._live[trial.trial_id] = replace(record, rungs=rungs, status=status)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._end(trial, self._live[trial.trial_id])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        reason = _one_line(trial.get_error())
        self._end(trial, replace(self._live[trial.trial_id], status=FAILED, reason=reason))

    def _end(self, trial: Any, record: Record) -> None:
        seconds = time.monotonic() - self._started[trial.trial_id]
        self.records.append(replace(record, seconds=seconds))
        self._log(self.records[-1])
        if self._on_trial is not None:
            self._on_trial(self.records[-1])

    def _log(self, record: Record) -> None:
        done, total = len(self.records), self._budget.num_trials
        left = (time.monotonic() - self._begin) / done * (total - done)
        outcome = f"trial {record.trial}: {self._outcome(record)}"
        logger.info("%d of %d trials; %s; %s; about %.0f s left", done, total, outcome, self._leader(), left)

    def _outcome(self, record: Record) -> str:
        reached = f"{record.status} at rung {len(record.rungs)} of {len(self._budget.rungs)}"
        if record.status == FAILED:
            return f"{reached} ({record.reason})"
        return f"{self._metric} {record.metrics[self._metric]:.4g}, {reached}"

    def _leader(self) -> str:
        if all(record.status == FAILED for record in self.records):
            return "none good so far"
        leader = best(self.records, self._metric)
        return f"best {leader.metrics[self._metric]:.4g} (trial {leader.trial})"


def _one_line(error: BaseException | None) -> str:
    if error is None:
        return "its process died: killed, or out of memory"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
