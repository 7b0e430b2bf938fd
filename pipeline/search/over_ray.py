"""Ray Tune as the runner of a search: one worker runs trial after trial (Tune's `reuse_actors`).

So a trial costs milliseconds over its own work instead of the seconds that a fresh process takes to import torch.
"""

import math
import os
import tempfile
from collections.abc import Mapping, Sequence
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

from pipeline.cluster.connect import end_quietly
from pipeline.search.algorithms import Budget, Halving, Proposer, Space
from pipeline.search.records import Settings, TrialTask
from pipeline.search.store import Ledger

Result = dict[str, Any]
"""A report with entries of Tune's own."""


def over_ray(
    task: TrialTask,
    ledger: Ledger,
    space: Space,
    budget: Budget,
    points: Sequence[Settings],
    resources: Mapping[str, float],
    at_once: int | None,
) -> None:
    """Run the trials of `pipeline.search.search` on the Ray that is connected, and tell the ledger of each."""
    runnable = tune.with_parameters(_run, task=task)
    # Tune would start the process of one trial after the other's, and never a second one for short trials.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(budget.max_concurrent)
    with tempfile.TemporaryDirectory(prefix="ncsn-search-") as results:
        tune.Tuner(
            tune.with_resources(runnable, dict(resources)),
            tune_config=tune.TuneConfig(
                num_samples=budget.num_trials,
                reuse_actors=True,
                max_concurrent_trials=at_once,
                search_alg=_Searcher(Proposer(space, points, budget)),
                scheduler=_Scheduler(Halving(budget)),
            ),
            run_config=tune.RunConfig(name="search", storage_path=results, verbose=0, callbacks=[_Callback(ledger)]),
        ).fit()


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
