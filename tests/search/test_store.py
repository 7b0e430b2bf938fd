"""A search that was cut off, or is longer than the last: no trial lost, none run twice, the same records."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.params import load
from pipeline.search import Budget, Categorical, Range, SearchStore, sampler_trial, search_here
from pipeline.search.records import FAILED, FINISHED, STOPPED, Settings, TrialRecord, key
from pipeline.search.sampler_trial import SamplerSetup
from pipeline.search.store import Journal, Ledger, fingerprint
from tests.search.searched import BOUNDS, made

SPACE = {"x": Range(0.1, 10.0), "n": Range(1, 20), "kind": Categorical(("good", "bad"))}
BUDGET = Budget(num_trials=12, rungs=(1, 2, 3), reduction_factor=2, max_concurrent=2, seed=3)
FIRST = {"x": 5.0, "n": 20, "kind": "good"}


def bowl(settings: Settings, ran: list[Settings], count: int) -> Iterator[dict[str, float]]:
    """A bowl that also raises, and is no number, in places."""
    ran.append(settings)
    if settings["n"] == 1:
        raise ArithmeticError("n is 1")
    worse = 0.0 if settings.get("kind") != "bad" else 0.1
    value = math.log(settings["x"]) ** 2 + math.log(settings["n"] / 5) ** 2 + worse
    for rung in range(count):
        loss = math.nan if rung == 1 and settings["x"] > 8 else value + 1 / (rung + 1)
        yield {"loss": np.float32(loss), "other": math.nan, "rung": rung}


def run(budget: Budget, kept: Path | None, **arguments: Any) -> tuple[list[TrialRecord], list[Settings]]:
    ran: list[Settings] = []
    records = search_here(
        bowl,
        SPACE,
        metric="loss",
        budget=budget,
        points=[FIRST],
        aside={"ran": ran, "count": len(budget.rungs)},
        store=SearchStore(kept, "bowl") if kept else None,
        **arguments,
    )
    return records, ran


def plain(records: list[TrialRecord]) -> list[str]:
    """Without times; repr, since NaN is not itself."""
    return [repr(replace(record, seconds=0.0)) for record in records]


def cut_at(number: int) -> Callable[[TrialRecord], None]:
    def on_trial(record: TrialRecord) -> None:
        if record.trial == number:
            raise KeyboardInterrupt

    return on_trial


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_cut_off_after_any_trial_it_ends_in_the_same_records(algorithm: str, tmp_path: Path) -> None:
    budget = replace(BUDGET, algorithm=algorithm)
    undisturbed, ran = run(budget, None)
    assert len(ran) == 12 and {r.status for r in undisturbed} == {FINISHED, STOPPED, FAILED}
    for number in range(1, 13):
        kept = tmp_path / str(number)
        with pytest.raises(KeyboardInterrupt):
            run(budget, kept, on_trial=cut_at(number))
        told: list[TrialRecord] = []
        records, again = run(budget, kept, on_trial=told.append)
        assert plain(records) == plain(undisturbed)
        assert again == ran[number:], "the others ran, once each"
        assert plain(told) == plain(undisturbed), "the caller hears of every trial"


def test_what_was_cut_off_time_and_again_goes_forward(tmp_path: Path) -> None:
    undisturbed, _ = run(BUDGET, None)
    for number in range(1, 13):
        with pytest.raises(KeyboardInterrupt):
            run(BUDGET, tmp_path, on_trial=cut_at(number))
    records, ran = run(BUDGET, tmp_path)
    assert (plain(records), ran) == (plain(undisturbed), [])
    assert repr(records) == repr(run(BUDGET, tmp_path)[0]), "times are those of the runs"


@pytest.mark.parametrize("harm", [lambda text: text[:-20], lambda text: text.replace("5.0", "5.5"), lambda _: ""])
def test_a_damaged_trial_runs_anew(
    harm: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, ran = run(BUDGET, tmp_path)
    (path,) = tmp_path.glob(f"search-bowl-*/trial_{key(FIRST)}.json")
    path.write_text(harm(path.read_text()))
    records, again = run(BUDGET, tmp_path)
    assert (plain(records), again) == (plain(undisturbed), ran[:1])
    assert f"trial_{key(FIRST)}.json is damaged" in caplog.text


def test_trials_of_other_settings_are_not_believed(tmp_path: Path) -> None:
    run(BUDGET, tmp_path)
    (mine,) = tmp_path.iterdir()
    other = replace(BUDGET, seed=4)
    records, ran = run(other, tmp_path)
    assert plain(records) == plain(run(other, None)[0])
    assert len(ran) == 11, "of the same starting point the metrics are"
    run(BUDGET, tmp_path, follows="other images")
    assert len(list(tmp_path.iterdir())) == 2 and mine.exists()


def shorter(num_trials: int, rungs: tuple[int, ...] = (1, 2, 3), **changes: Any) -> Budget:
    return replace(BUDGET, num_trials=num_trials, rungs=rungs, **changes)


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
@pytest.mark.parametrize("fewer", [1, 5, 11])
def test_a_search_with_more_trials_is_that_from_nothing_and_repeats_none_of_the_shorter_one(
    fewer: int, algorithm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    expected, alone = run(shorter(12, algorithm=algorithm), None)
    _, measured = run(shorter(fewer, algorithm=algorithm), tmp_path)
    records, ran = run(shorter(12, algorithm=algorithm), tmp_path)
    assert plain(records) == plain(expected)
    shared = [settings for settings in alone if settings in measured]
    assert ran == [settings for settings in alone if settings not in measured]
    assert f"{len(shared)} of 12 trials were measured by an earlier search" in caplog.text


def test_without_kinds_the_first_trials_of_a_longer_search_are_those_of_the_shorter_one() -> None:
    """Kinds take turns by the share of the trials that is past; without them, all decisions are the same."""
    space = {name: SPACE[name] for name in ("x", "n")}

    def found(num_trials: int) -> list[str]:
        return plain(search_here(bowl, space, metric="loss", budget=shorter(num_trials), aside={"ran": [], "count": 3}))

    assert found(14)[:5] == found(5) and found(14)[:9] == found(9)


def test_where_more_trials_change_the_proposals_the_measurements_of_equal_ones_are_used(
    tmp_path: Path,
) -> None:
    """Of 40 trials the first 9 are random instead of 3: other proposals from the fourth on."""
    run(shorter(12), tmp_path)
    records, ran = run(shorter(40), tmp_path)
    expected, alone = run(shorter(40), None)
    assert plain(records) == plain(expected) and 3 <= len(alone) - len(ran) < 12


@pytest.mark.parametrize("rungs", [(1,), (1, 2), (2, 3), (1, 2, 3, 4)])
def test_a_search_with_other_rungs_is_that_from_nothing_on_the_measurements_it_shares(
    rungs: tuple[int, ...], tmp_path: Path
) -> None:
    run(shorter(12, rungs), tmp_path)
    records, ran = run(BUDGET, tmp_path)
    expected, alone = run(BUDGET, None)
    assert plain(records) == plain(expected)
    longest = {repr(record.settings): len(record.rungs) for record in expected}
    if rungs[0] == 1:
        assert ran.count(FIRST) == (len(rungs) < longest[repr(FIRST)]), "it runs for the rungs that are missing"
        assert len(ran) < len(alone)
    else:
        assert ran == alone, "what is judged first elsewhere shares nothing"


def test_a_sampler_search_with_another_rung_has_the_records_of_one_from_nothing(tmp_path: Path) -> None:
    """On samples of a real trial: those that halving stops before the new rung are not drawn again."""

    def found(rungs: tuple[int, ...], store: SearchStore | None) -> tuple[list[str], int]:
        setup = made(budget=Budget(num_trials=6, rungs=rungs, reduction_factor=2, max_concurrent=2, seed=5))
        drawn: list[Settings] = []

        def counted(settings: Settings, setup: SamplerSetup) -> Iterator[Any]:
            drawn.append(settings)
            return sampler_trial.trial(settings, setup)

        counted.__qualname__ = "counted"
        space, points = setup.proposals().space(BOUNDS), setup.proposals().points()[:3]
        records = search_here(
            counted, space, metric="fid", budget=setup.budget, points=points, shared={"setup": setup},
            store=store,
        )  # fmt: skip
        return plain(records), len(drawn)

    found((40, 80), SearchStore(tmp_path, "tune_sampler"))
    continued, few = found((40, 80, 120), SearchStore(tmp_path, "tune_sampler"))
    assert continued == (alone := found((40, 80, 120), None))[0] and few < alone[1] == 6


def test_a_killed_longer_search_goes_on_too(tmp_path: Path) -> None:
    run(shorter(5), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(BUDGET, tmp_path, on_trial=cut_at(8))
    records, ran = run(BUDGET, tmp_path)
    expected, alone = run(BUDGET, None)
    assert plain(records) == plain(expected) and ran == alone[8:]


def breaks(settings: Settings, count: int) -> Iterator[dict[str, float]]:
    for rung in range(count):
        if rung == 2:
            raise ArithmeticError("at the third rung")
        yield {"loss": 1.0}


def test_a_failure_is_known_at_the_rung_that_both_searches_have(tmp_path: Path) -> None:
    def status(rungs: tuple[int, ...], store: Path | None) -> list[str]:
        points = [{"x": 1.0, "n": 5, "kind": "good"}]
        budget, aside = Budget(1, rungs, 2, 1, seed=0), {"count": len(rungs)}
        kept = SearchStore(store, "breaks") if store else None
        try:
            return plain(
                search_here(breaks, SPACE, metric="loss", budget=budget, points=points, aside=aside, store=kept)
            )
        except UserError as error:
            return [str(error)]

    assert "at the third rung" in status((1, 2, 3), tmp_path)[0]
    assert status((1, 2), tmp_path) == status((1, 2), None), "which does not come so far"
    assert "at the third rung" in status((1, 2, 3), tmp_path)[0]


def test_of_finished_searches_the_newest_stays_and_an_unfinished_one_does_too(tmp_path: Path) -> None:
    stores = [SearchStore(tmp_path, stage) for stage in ("a", "a", "a", "b")]
    folders = [store.folder(number) for number, store in enumerate(stores)]
    stores[1].scratch("states")
    for store in (stores[0], stores[3], stores[1]):
        store.publish()
    assert sorted(tmp_path.iterdir()) == sorted(folders[1:]), "the third search is unfinished"
    stores[1].folder(1)
    stores[2].publish()
    assert sorted(tmp_path.iterdir()) == sorted(folders[1:]), "the second one runs again"


HOLDER = """
import sys
from pathlib import Path
from pipeline.search import SearchStore

store = SearchStore(Path(sys.argv[1]), "slow")
for number in (1, 2):
    (store.folder(number) if number == 1 else store.scratch(number)).joinpath("kept").touch()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_folder_that_another_process_searches_in_is_refused_by_name(tmp_path: Path) -> None:
    """Kept trials and scratch alike; other folders are free, and a process that is killed lets go."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        store = SearchStore(tmp_path, "slow")
        for hold, what, number in ((store.folder, "search", 1), (store.scratch, "scratch", 2)):
            with pytest.raises(UserError) as caught:
                hold(number)
            message = str(caught.value)
            assert message.startswith(f"process {other.pid} on ") and "\n" not in message
            assert f" is the searcher of the trials in {tmp_path}/{what}-slow-" in message
            assert message.endswith(": wait for its end or stop it, and run again.")
        (taken,) = tmp_path.glob("search-slow-*")
        (taken / "published").touch()
        store.folder(3)
        store.publish()
        assert (taken / "kept").exists(), "in use by another process"
        other.kill()
        other.wait()
    assert (store.folder(1) / "kept").exists() and store.folder(1) == taken
    assert (store.scratch(2) / "kept").exists()
    store.release()


def test_a_search_that_failed_leaves_its_folder_to_the_next_and_one_that_ended_holds_it(tmp_path: Path) -> None:
    first, second = SearchStore(tmp_path, "bowl"), SearchStore(tmp_path, "bowl")
    with pytest.raises(KeyboardInterrupt), first.unless_failed():
        first.folder(1)
        raise KeyboardInterrupt
    with second.unless_failed():
        second.folder(1)
    with pytest.raises(UserError, match="is the searcher of the trials"):
        first.folder(1)
    second.publish()
    first.folder(1)
    first.release()


def test_a_dead_process_counts_when_the_search_outlived_it(tmp_path: Path) -> None:
    def ended(*died: str) -> int:
        journal = Journal(tmp_path / str(len(died)), BUDGET.rungs)
        ledger = Ledger("loss", BUDGET, journal, None)
        for place, reason in enumerate(died):
            ledger.start(place, {"x": place})
            ledger.report(place, {"value": 1.0, "rung": 0, "metrics": {"loss": 1.0}})
            ledger.end(place, reason)
        return len(journal.known())

    assert ended("killed", "killed") == 0, "what killed them may be what killed the driver"
    assert ended("killed", "killed", "") == 3


def test_random_search_does_not_heed_results_and_tpe_does() -> None:
    def proposed(algorithm: str, sign: float) -> list[Settings]:
        def slope(settings: Settings) -> Iterator[dict[str, float]]:
            yield {"loss": sign * settings["x"]}

        budget = replace(BUDGET, rungs=(1,), algorithm=algorithm)
        return [record.settings for record in search_here(slope, SPACE, metric="loss", budget=budget)]

    assert proposed("random", 1.0) == proposed("random", -1.0)
    assert proposed("tpe", 1.0) == proposed("tpe", 1.0) != proposed("tpe", -1.0)


def test_a_search_of_anything_else_has_another_fingerprint() -> None:
    network, images = torch.nn.Linear(3, 2), np.arange(12, dtype=np.uint8)
    base = {"network": network, "images": images, "budget": BUDGET, "ladder": Ladder(1.0, 0.1, 5)}
    same = json.loads(json.dumps({"a": 1, "b": [1.0, None]}))
    assert fingerprint(base, {"b": [1.0, None], "a": 1}) == fingerprint(dict(reversed(base.items())), same)
    copy = torch.nn.Linear(3, 2)
    copy.load_state_dict(network.state_dict())
    assert fingerprint(copy) == fingerprint(network)
    copy.weight.data[0, 0] += 1e-6
    others = [
        base | {"network": copy},
        base | {"images": images.reshape(3, 4)},
        base | {"images": images.astype(np.int8)},
        base | {"images": images + (images == 11)},
        base | {"budget": replace(BUDGET, seed=4)},
        base | {"ladder": Ladder(1.0, 0.1, 5, rho=7.0)},
        base | {"more": None},
        {**base, "budget": (BUDGET, 1)},
    ]
    prints = [fingerprint(other) for other in [base, *others]]
    assert len(set(prints)) == len(prints)
    assert fingerprint(plain) == fingerprint(plain) != fingerprint(run)
    with pytest.raises(TypeError, match="from another by a function"):
        fingerprint(lambda: 0)


class Space:
    """A feature space of a user's own: no dataclass, and no network."""

    device = "cpu"

    def __init__(self, weights: bytes, shape: int = 8) -> None:
        self.weights, self.shape = weights, shape

    def tensors(self) -> bytes:
        return self.weights

    def config(self) -> dict[str, int]:
        return {"shape": self.shape}


def test_a_feature_space_is_told_by_its_weights_and_its_settings() -> None:
    found = [fingerprint(Space(b"a")), fingerprint(Space(b"b")), fingerprint(Space(b"a", 9))]
    assert len(set(found)) == 3 and found[0] == fingerprint(Space(b"a"))


def test_a_section_of_params_is_told_by_its_values() -> None:
    recipes = load(Path(__file__).parents[2] / "params.yaml").recipes
    assert len({fingerprint(recipes[name]) for name in ("ncsn", "ncsnv2", "edm")}) == 3
    assert fingerprint(recipes["ncsnv2"]) == fingerprint(recipes["ncsnv2"].model_copy())
