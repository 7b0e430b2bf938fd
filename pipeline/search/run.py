"""Runners of a search: Ray Tune over the connected cluster, or this process, with the same records.

What is tried is decided by `algorithms` alone. On Ray, one worker runs trial after trial (Tune's
`reuse_actors`), so that a trial costs milliseconds over its own work instead of the seconds that a fresh
process takes to import torch.
"""

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Read by Ray when a search starts: no result files, no tables, and Ctrl-C ends the search at once instead of
# returning the trials so far as if they were all.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
os.environ.setdefault("TUNE_WARN_THRESHOLD_S", "60")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from pipeline.cluster.connect import cluster_resources, end_quietly
from pipeline.search.algorithms import Budget, Halving, Proposer, Space
from pipeline.search.records import OnTrial, Settings, Shared, Trial, TrialRecord, TrialTask
from pipeline.search.store import Journal, Ledger, SearchStore

Result = dict[str, Any]
"""A report with entries of Tune's own."""


def search(
    trial: Trial,
    space: Space,
    *,
    metric: str,
    budget: Budget,
    points: Sequence[Settings] = (),
    shared: Shared | None = None,
    aside: Shared | None = None,
    resources: Mapping[str, float] | None = None,
    at_once: int | None = None,
    on_trial: OnTrial | None = None,
    store: SearchStore | None = None,
    follows: Any = None,
) -> list[TrialRecord]:
    """Search `space` for the settings with the smallest `metric`, on the Ray that is connected.

    The same arguments give the same trials and metrics. A trial that raises, whose metric is not finite or
    whose process dies is recorded as failed, and the search continues.

    Args:
        trial: called as `trial(settings, **shared)`; yields a mapping that holds `metric` at each rung.
        points: settings tried first, in this order.
        shared: large constants, put into Ray's object store once.
        aside: the same, but for what changes no result, so that a search is found again without it.
        resources: of each trial, e.g. `{"cpu": 2}`.
        at_once: how many trials run at a time where fewer than `budget.max_concurrent` are to, which changes
            no decision; None: as many as there are resources for.
        on_trial: called here, in the caller's process, with each record as its trial ends.
        store: where each trial is written as it ends. A later call measures nothing that this one did, be it
            killed or with other trials or rungs: the trials and metrics are those of a call that began from
            nothing. None: nothing is written.
        follows: what metrics follow from besides the trial's settings and `shared`.

    Returns:
        One record per trial, in the order of proposal.

    Raises:
        UserError: every trial failed, and the message holds the first reason, or another process runs the same
            search in `store`.
    """
    with _begun(trial, metric, budget, shared, aside, on_trial, store, follows) as (ledger, task):
        runnable = tune.with_parameters(_run, task=task)
        # Tune would start the process of one trial after the other's, and never a second one for short trials.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(budget.max_concurrent)
        with tempfile.TemporaryDirectory(prefix="ncsn-search-") as results:
            tune.Tuner(
                tune.with_resources(runnable, dict(resources or {"cpu": 1})),
                tune_config=tune.TuneConfig(
                    num_samples=budget.num_trials,
                    reuse_actors=True,
                    max_concurrent_trials=at_once,
                    search_alg=_Searcher(Proposer(space, points, budget)),
                    scheduler=_Scheduler(Halving(budget)),
                ),
                run_config=tune.RunConfig(
                    name="search", storage_path=results, verbose=0, callbacks=[_Callback(ledger)]
                ),
            ).fit()
        return ledger.closed()


def search_here(
    trial: Trial,
    space: Space,
    *,
    metric: str,
    budget: Budget,
    points: Sequence[Settings] = (),
    shared: Shared | None = None,
    aside: Shared | None = None,
    on_trial: OnTrial | None = None,
    store: SearchStore | None = None,
    follows: Any = None,
) -> list[TrialRecord]:
    """`search` in this process, one trial after the other; a trial must not kill its process."""
    with _begun(trial, metric, budget, shared, aside, on_trial, store, follows) as (ledger, task):
        proposer, halving = Proposer(space, points, budget), Halving(budget)
        for place in range(budget.num_trials):
            settings, value = proposer.ask() or {}, math.inf
            ledger.start(place, settings)
            for report in task.reports(settings):
                ledger.report(place, report)
                value = report["value"]
                if "reason" not in report and halving.stops(place, report["rung"], value):
                    break
            ledger.end(place)
            proposer.tell(place, value)
        return ledger.closed()


@contextlib.contextmanager
def _begun(
    trial: Trial,
    metric: str,
    budget: Budget,
    shared: Shared | None,
    aside: Shared | None,
    on_trial: OnTrial | None,
    store: SearchStore | None,
    follows: Any,
) -> Iterator[tuple[Ledger, TrialTask]]:
    """The ledger of a search, which knows what was measured before, and the task of its trials."""
    with store.unless_failed() if store else contextlib.nullcontext():
        folder = store.folder(trial, metric, shared, follows) if store else None
        ledger = Ledger(metric, budget, Journal(folder, budget.rungs), on_trial)
        constants = {**(shared or {}), **(aside or {})}
        yield ledger, TrialTask(trial, metric, constants, len(budget.rungs), ledger.known)


def resources(max_concurrent: int, use_gpu: bool, gpus_per_trial: float | None = None) -> dict[str, float]:
    """Resources that Ray reserves for a trial: a CPU, and where GPUs are used a part of one.

    Args:
        gpus_per_trial: None: a share of a GPU with which all concurrent trials fit.
    """
    if not use_gpu:
        return {"cpu": 1}
    gpus = cluster_resources()["GPU"]
    return {"cpu": 1, "gpu": gpus_per_trial or 1 / math.ceil(max_concurrent / gpus)}


def _run(config: Settings, task: TrialTask) -> None:
    """One trial in its worker."""
    end_quietly()
    for report in task.reports(config["settings"]):
        tune.report(dict(report))


class _Searcher(Searcher):
    """Proposer behind Tune's interface of a search algorithm."""

    def __init__(self, proposer: Proposer) -> None:
        super().__init__(metric="value", mode="min")
        self._proposer = proposer
        self._place: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Settings | None:
        settings = self._proposer.ask()
        if settings is None:
            return None  # Tune asks again
        place = self._place[trial_id] = len(self._place)
        return {"place": place, "settings": settings}

    def on_trial_complete(self, trial_id: str, result: Result | None = None, error: bool = False) -> None:
        self._proposer.tell(self._place[trial_id], math.inf if error or not result else result["value"])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what a search knows is in its journal."""


class _Scheduler(FIFOScheduler):
    """Halving behind Tune's interface of a scheduler."""

    def __init__(self, halving: Halving) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._halving = halving

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Result) -> str:
        if "reason" in result:  # failed: no competitor
            return TrialScheduler.CONTINUE
        stop = self._halving.stops(trial.config["place"], result["rung"], result["value"])
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


class _Callback(tune.Callback):
    """Ledger behind Tune's interface of a callback."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getstate__(self) -> Result:
        """Nothing: Tune writes it down for a continuation of its own, which is not used."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ledger.start(trial.config["place"], dict(trial.config["settings"]))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: Result, **info: Any) -> None:
        report: Any = result
        self._ledger.report(trial.config["place"], report)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ledger.end(trial.config["place"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ledger.end(trial.config["place"], died=_one_line(trial.get_error()))


def _one_line(error: BaseException | None) -> str:
    if error is None:
        return "its process died: killed, or out of memory"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
