"""Laws of population-based training: who copies whom, what they go on with, and that it all repeats."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.ncsn.ladder import Ladder
from pipeline.search import Range, SearchStore, search_here
from pipeline.search.noise import FoundNoise, tune
from pipeline.search.noise_trial import NoiseSetup, Segment, trained
from pipeline.search.pbt import FACTORS, succeeded
from pipeline.search.records import FAILED, FINISHED, STOPPED, TrialRecord
from tests.search.short import BOUNDS, START, made

SPACE = {"sigma_max": Range(0.4, 2.0), "sigma_min": Range(0.01, 0.2), "num_levels": Range(3, 9)}
OTHER = Ladder(0.5, 0.05, 5)


def generation(*fids: float) -> list[TrialRecord]:
    """Members of a first generation by their FIDs, NaN for one that failed."""
    ladder = {"sigma_min": 0.1, "num_levels": 6, "generation": 1}
    members = [{"sigma_max": m / 10, **ladder, "member": m, "parent": m} for m in range(1, len(fids) + 1)]
    return [
        TrialRecord(int(one["member"]), one, *((({"fid": fid},), FINISHED) if fid == fid else ((), FAILED)))
        for one, fid in zip(members, fids, strict=True)
    ]


def test_the_worst_quarter_copies_one_of_the_best_and_the_others_go_on() -> None:
    donors = set()
    for seed in range(20):
        following = succeeded(generation(5.0, 1.0, 8.0, 4.0, 2.0, 6.0, 7.0, 3.0), SPACE, seed, 2)
        assert [one["member"] for one in following] == list(range(1, 9))
        assert {one["generation"] for one in following} == {2}
        parents = [one["parent"] for one in following]
        assert [m for m, parent in enumerate(parents, 1) if parent != m] == [3, 7]
        donors |= {parents[2], parents[6]}
        assert all(following[m - 1]["sigma_max"] == m / 10 for m in (1, 2, 4, 5, 6, 8)), "unchanged"
    assert donors == {2, 5}


def test_a_copied_range_is_perturbed_by_the_stated_factors_within_its_bounds() -> None:
    seen: dict[str, set[float]] = {name: set() for name in SPACE}
    space = {**SPACE, "sigma_min": Range(0.09, 0.11)}
    for seed in range(40):
        copy = succeeded(generation(5.0, 9.0, 7.0, 1.0), space, seed, 3)[1]
        assert copy["parent"] == 4
        for name in SPACE:
            seen[name].add(copy[name])
    assert FACTORS == (0.8, 1.25) and seen["sigma_max"] == {0.4, 0.5}, "0.32 lies outside of the bounds"
    assert seen["sigma_min"] == {0.09, 0.11}, "within the bounds"
    assert seen["num_levels"] == {5, 8} and all(isinstance(n, int) for n in seen["num_levels"])


def test_whoever_failed_has_nothing_to_go_on_with() -> None:
    nan = float("nan")
    parents = [one["parent"] for one in succeeded(generation(nan, 1.0, nan, nan), SPACE, 0, 2)]
    assert parents == [2, 2, 2, 2]
    for seed in range(20):
        eight = succeeded(generation(nan, 1.0, *[nan] * 6), SPACE, seed, 2)
        assert [one["parent"] for one in eight] == [2] * 8, "though two of eight are the best quarter"


def test_draws_follow_from_seed_and_place_alone() -> None:
    def copies(seed: int, number: int) -> list[Any]:
        return [one["sigma_max"] for one in succeeded(generation(5.0, 9.0, 7.0, 1.0), SPACE, seed, number)]

    assert copies(0, 2) == copies(0, 2)
    assert len({tuple(copies(seed, 2)) for seed in range(9)}) > 1
    assert len({tuple(copies(0, number)) for number in range(2, 9)}) > 1


@pytest.fixture(scope="module")
def setup() -> NoiseSetup:
    plain = made(num_samples=8, max_nfe=8, batch_size=4)
    return replace(plain, budget=replace(plain.budget, num_trials=4, rungs=(2, 4, 6), algorithm="pbt"))


Run = Callable[..., FoundNoise]


@pytest.fixture
def run(setup: NoiseSetup, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The stage's search in this process; `cut_at`: it is killed when this trial ends."""

    def here(*arguments: Any, resources: Any, **options: Any) -> list[TrialRecord]:
        return search_here(*arguments, **options)

    def searched(kept: Path | None = None, cut_at: int = 0, one: NoiseSetup = setup) -> FoundNoise:
        def on_trial(record: TrialRecord) -> None:
            if record.trial == cut_at:
                raise KeyboardInterrupt

        where = SearchStore(kept, "tune_noise") if kept else None
        return tune(one, START, {"o": OTHER}, bounds=BOUNDS, resources={}, store=where, on_trial=on_trial)

    monkeypatch.setattr("pipeline.search.noise.search", here)
    return searched


def plain(records: list[TrialRecord]) -> list[TrialRecord]:
    return [replace(record, seconds=0.0) for record in records]


def test_members_train_on_where_their_parents_stopped(run: Run, setup: NoiseSetup, tmp_path: Path) -> None:
    found = run()
    records = found.records
    assert [record.trial for record in records] == list(range(1, 13))
    assert [r.status for r in records] == [STOPPED] * 8 + [FINISHED] * 4
    assert [r.metrics["steps"] for r in records] == [2] * 4 + [4] * 4 + [6] * 4
    assert [Ladder.read(r.settings) for r in records[:2]] == [START, OTHER]
    copies = [r for r in records if r.settings["parent"] != r.settings["member"]]
    assert {r.settings["generation"] for r in copies} == {2, 3} and len(copies) == 2
    copy = next(r for r in copies if r.settings["generation"] == 2)
    donor = records[copy.settings["parent"] - 1]
    assert Ladder.read(donor.settings) != Ladder.read(copy.settings)
    ladders = [Ladder.read(each.settings) for each in (donor, copy)]
    first = Segment(ladders[0], 2, None, tmp_path / "donor")
    trained(first, setup)
    metrics = trained(Segment(ladders[1], 4, first.target, None), setup)
    assert {name: metrics[name] for name in copy.metrics} == copy.metrics
    assert Ladder.read(min(records[8:], key=lambda r: r.metrics["fid"]).settings) == found.winner
    assert found.compared.lines["tuned"].values["generation"] == 3


@pytest.mark.usefixtures("local_ray")
def test_ray_tune_decides_nothing(setup: NoiseSetup, request: pytest.FixtureRequest) -> None:
    short = replace(setup, budget=replace(setup.budget, rungs=(2, 4)))
    on_ray = tune(short, START, {"o": OTHER}, bounds=BOUNDS, resources={"cpu": 1})
    here: Run = request.getfixturevalue("run")
    assert plain(on_ray.records) == plain(here(one=short).records)


def test_it_repeats_and_is_resumed_after_any_trial(run: Run, tmp_path: Path) -> None:
    undisturbed = run(tmp_path / "whole")
    for cut_at in (3, 8, 12):
        kept = tmp_path / str(cut_at)
        with pytest.raises(KeyboardInterrupt):
            run(kept, cut_at)
        before = {path: path.read_text() for path in kept.glob("search-*/trial_*.json")}
        assert len(before) == cut_at
        found = run(kept)
        assert plain(found.records) == plain(undisturbed.records) and found.winner == undisturbed.winner
        assert all(path.read_text() == text for path, text in before.items()), "none was written anew"


def test_another_search_does_not_find_its_states(run: Run, setup: NoiseSetup, tmp_path: Path) -> None:
    run(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    run(tmp_path, one=replace(setup, num_samples=9))
    assert len({path.name for path in tmp_path.iterdir()} - names) == len(names) == 2
