"""A search that was cut off anywhere and run again: no trial lost, none run twice, the same records."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.ncsn.ladder import Ladder
from pipeline.search import Budget, Choice, Kept, Range, search_here
from pipeline.search.journal import Journal
from pipeline.search.kept import fingerprint
from pipeline.search.ledger import Ledger
from pipeline.search.records import FAILED, FINISHED, STOPPED, Record, Settings

SPACE = {"x": Range(0.1, 10.0), "n": Range(1, 20), "kind": Choice(("good", "bad"))}
BUDGET = Budget(num_trials=12, rungs=(1, 2, 3), reduction_factor=2, max_concurrent=2, seed=3)
FIRST = {"x": 5.0, "n": 20, "kind": "good"}


def bowl(settings: Settings, ran: list[Settings]) -> Iterator[dict[str, float]]:
    """A bowl that also raises, and is no number, in places."""
    ran.append(settings)
    if settings["n"] == 1:
        raise ArithmeticError("n is 1")
    worse = 0.0 if settings["kind"] == "good" else 0.1
    value = math.log(settings["x"]) ** 2 + math.log(settings["n"] / 5) ** 2 + worse
    for rung in range(3):
        loss = math.nan if rung == 1 and settings["x"] > 8 else value + 1 / (rung + 1)
        yield {"loss": np.float32(loss), "other": math.nan, "rung": rung}


def run(budget: Budget, kept: Path | None, **arguments: Any) -> tuple[list[Record], list[Settings]]:
    ran: list[Settings] = []
    records = search_here(
        bowl,
        SPACE,
        metric="loss",
        budget=budget,
        points=[FIRST],
        shared={"ran": ran},
        kept=Kept(kept, "bowl") if kept else None,
        **arguments,
    )
    return records, ran


def plain(records: list[Record]) -> list[str]:
    """Without times; repr, since NaN is not itself."""
    return [repr(replace(record, seconds=0.0)) for record in records]


def cut_at(number: int) -> Callable[[Record], None]:
    def on_trial(record: Record) -> None:
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
        told: list[Record] = []
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


@pytest.mark.parametrize(
    "harm", [lambda text: text[:-20], lambda text: text.replace("5.0", "5.5"), lambda _: ""]
)
def test_a_damaged_trial_runs_anew(
    harm: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, ran = run(BUDGET, tmp_path)
    (path,) = tmp_path.glob("search-bowl-*/trial_000001.json")
    path.write_text(harm(path.read_text()))
    records, again = run(BUDGET, tmp_path)
    assert (plain(records), again) == (plain(undisturbed), ran[:1])
    assert "trial_000001.json is damaged" in caplog.text


def test_trials_of_other_settings_are_not_believed(tmp_path: Path) -> None:
    run(BUDGET, tmp_path)
    (mine,) = tmp_path.iterdir()
    other = replace(BUDGET, seed=4)
    run(other, tmp_path)
    (theirs,) = set(tmp_path.iterdir()) - {mine}
    shutil.rmtree(theirs)
    mine.rename(theirs)
    records, ran = run(other, tmp_path)
    assert plain(records) == plain(run(other, None)[0])
    assert len(ran) == 11, "the starting point is the same"


def test_a_dead_process_counts_when_the_search_outlived_it(tmp_path: Path) -> None:
    def ended(*died: str) -> int:
        journal = Journal(tmp_path / str(len(died)))
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
        base | {"budget": replace(BUDGET, algorithm="random")},
        base | {"ladder": Ladder(1.0, 0.1, 5, rho=7.0)},
        base | {"more": None},
        {**base, "budget": (BUDGET, 1)},
    ]
    prints = [fingerprint(other) for other in [base, *others]]
    assert len(set(prints)) == len(prints)
    assert fingerprint(plain) == fingerprint(plain) != fingerprint(run)
    with pytest.raises(TypeError, match="by a function"):
        fingerprint(lambda: 0)
