"""Whether a run reproduces a published one: planted differences of known size, and what must not be compared."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from pipeline.reporting.intervals import nested
from pipeline.reporting.lineage import File
from pipeline.reporting.reproduction import MARGIN, MEASURES, Reproduced, compare, pooled, scale, text
from pipeline.reporting.rows import Estimate, Row, Table
from tests.reporting.conftest import estimates

TRUTH = {"fid": 14.0, "kid": 0.43, "precision": 0.42, "recall": 0.8}
NETWORKS = ("ncsn", "ncsnv2", "tuned", "edm")
SIGMA = 0.02
"""Relative spread between trainings and between sets, of every measure, unless a test says otherwise."""


def made(
    rng: np.random.Generator, shape: tuple[int, int], times: Mapping[str, float] = {}, sigma: float = SIGMA
) -> tuple[Estimate, ...]:
    """Measures of S x K draws, each measure's truth multiplied by `times`."""
    found = []
    for name, truth in TRUTH.items():
        spread = sigma * truth
        trainings = truth * times.get(name, 1.0) + rng.normal(0, spread, (shape[0], 1))
        values = trainings + rng.normal(0, spread, shape)
        interval = nested(name, values.tolist())
        found.append(Estimate(name, float(values.mean()), interval=interval))
    return tuple(found)


def row(
    system: str = "ncsn", measures: Sequence[Estimate] = (), shape: tuple[int, int] = (1, 1), **changes: Any
) -> Row:
    files = (File("evaluator", "c.safetensors", "e" * 64), File("samples", f"{system}.npy", f"{shape}"))
    common = {"n": 360, "n_reference": 1437, "evaluator": "E", "nfe": 100, "network": system, "files": files}
    counts = {"training_seeds": shape[0], "sampling_sets": shape[1], "measures": tuple(measures)}
    return Row(system, True, "c", **(common | counts | changes))  # type: ignore[arg-type]


def table(*rows: Row, data: str = "d") -> Table:
    return Table("digits", data, (), rows)


def reference(rng: np.random.Generator, shape: tuple[int, int] = (3, 2), sigma: float = SIGMA) -> Table:
    return table(*(row(name, made(rng, shape, sigma=sigma), shape) for name in NETWORKS))


def verdicts(times: Mapping[str, float], repeats: int = 1000, sigma: float = SIGMA) -> dict[str, float]:
    """How often each verdict is given on one row here, whose truth is `times` that of the published."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        here = table(row("ncsn", made(rng, (1, 1), times, sigma)))
        found += [one.verdict for one in compare(here, reference(rng, sigma=sigma), MARGIN)]
    return {name: found.count(name) / repeats for name in ("reproduced", "not reproduced", "cannot tell")}


def test_no_difference_is_reproduced() -> None:
    found = verdicts({})
    assert found["reproduced"] > 0.99 and found["not reproduced"] == 0


def test_half_the_margin_is_reproduced_and_never_called_not_reproduced() -> None:
    found = verdicts(dict.fromkeys(MEASURES, 1 + MARGIN / 2))
    assert found["reproduced"] > 0.9 and found["not reproduced"] == 0


@pytest.mark.parametrize("name", MEASURES)
def test_three_margins_in_one_measure_alone_are_not_reproduced(name: str) -> None:
    found = verdicts({name: 1 + 3 * MARGIN}, repeats=100)
    assert found["not reproduced"] > 0.99


@pytest.mark.parametrize("name", MEASURES)
def test_a_difference_of_the_margin_is_called_reproduced_at_the_stated_rate(name: str) -> None:
    """The three other measures agree, so that this one decides; TOST errs in 5 % of all runs."""
    found = verdicts({name: 1 + MARGIN})
    assert 0.03 < found["reproduced"] < 0.07
    assert found["not reproduced"] < 0.02 + 0.05 / 4


def test_four_measures_at_their_margin_are_rarely_called_not_reproduced() -> None:
    found = verdicts(dict.fromkeys(MEASURES, 1 + MARGIN))
    assert 0.02 < found["not reproduced"] < 0.07, "ALPHA is shared among the measures"
    assert found["reproduced"] < 0.01


def test_a_spread_as_large_as_the_margin_tells_nothing() -> None:
    found = verdicts({}, repeats=200, sigma=0.4)
    assert found["cannot tell"] > 0.9


def test_the_interval_is_that_of_a_new_draw_against_a_mean() -> None:
    rng = np.random.default_rng(1)
    values = {name: rng.normal(14, 1, 3) for name in NETWORKS}
    there = table(*(row(n, estimates(nested("fid", [[x] for x in values[n]])), (3, 1)) for n in NETWORKS))
    (found,) = compare(table(row("ncsn", estimates(15.0))), there, 0.4)
    means = {name: xs.mean() for name, xs in values.items()}
    phi = np.mean([values[name].var(ddof=1) / means[name] for name in NETWORKS])
    stderr = np.sqrt(phi * means["ncsn"] * (1 + 1 / 3))
    (fid,) = found.differences
    assert fid.half * means["ncsn"] == pytest.approx(stats.t.ppf(0.95, 8) * stderr)
    assert fid.value * means["ncsn"] == pytest.approx(15.0 - means["ncsn"])


def test_trainings_are_counted_once_for_a_network() -> None:
    rng = np.random.default_rng(0)
    one = row("tuned", made(rng, (3, 2)), (3, 2))
    both = table(one, dataclasses.replace(one, system="tuned_fewest"), dataclasses.replace(one, denoised=False))
    spread = pooled(both, "fid", 2)
    assert spread is not None and spread.dof == 2
    interval = one.interval("fid")
    assert interval is not None and interval.std_training is not None and interval.std_sampling is not None
    expected = (interval.std_training**2 + interval.std_sampling**2 / 2) / interval.mean
    assert spread.phi == pytest.approx(expected)
    single = pooled(both, "fid", 1)
    assert single is not None and single.phi == pytest.approx(
        (interval.std_training**2 + interval.std_sampling**2) / interval.mean
    )


@pytest.mark.parametrize(
    ("name", "mean", "floor", "expected"),
    [("fid", 2.0, 0.5, 2.0), ("kid", 0.01, 0.02, 0.02), ("precision", 0.9, 0.96, 0.09), ("recall", 1.0, 1.0, 0.01)],
)
def test_the_variance_grows_as_stated(name: str, mean: float, floor: float, expected: float) -> None:
    assert scale(name, mean, 100, floor) == pytest.approx(expected)


def judged(here: Row, there: Row, settings: Any = ({}, {}), **data: str) -> Reproduced:
    (found,) = compare(table(here), table(there, **data), MARGIN, settings)
    return found


def there(**changes: Any) -> Row:
    return dataclasses.replace(row("ncsn", made(np.random.default_rng(0), (3, 2)), (3, 2)), **changes)


def here(**changes: Any) -> Row:
    return dataclasses.replace(row("ncsn", made(np.random.default_rng(1), (1, 1))), **changes)


def test_the_same_samples_are_said_to_be_bit_equal() -> None:
    one = here()
    found = judged(one, dataclasses.replace(one, measures=there().measures))
    assert (found.verdict, found.reason) == ("reproduced", "bit-equal: the very same samples")


def test_another_evaluator_tells_nothing() -> None:
    other = (File("evaluator", "c.safetensors", "f" * 64), *there().files[1:])
    found = judged(here(), there(files=other))
    assert (found.verdict, found.differences) == ("cannot tell", ())
    assert found.reason == "another evaluator (eeeeeeee here, ffffffff there)"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 100}, "N 100 against 360"),
        ({"nfe": 5}, "NFE 5 against 100"),
        ({"reference_set": "digits, held-out"}, "reference set digits, held-out against None"),
        ({"measures": ()}, "not measured here"),
    ],
)
def test_another_experiment_tells_nothing(changes: dict[str, Any], reason: str) -> None:
    found = judged(here(**changes), there())
    assert (found.verdict, found.reason) == ("cannot tell", reason)


def test_other_data_and_a_row_that_is_not_published_tell_nothing() -> None:
    assert judged(here(), there(), data="other").reason == "other data"
    assert judged(here(), there(system="edm")).reason == "not measured there"


def test_settings_that_differ_are_named_but_for_seeds_and_sets() -> None:
    train = {
        "train": {"steps": 640, "seed": 0},
        "generate": {"seed": 1, "sample_sets": 1},
        "evaluate": {"k": 5},
        "compute": {"kernels": "native"},
    }
    repeat = {
        "train": {"steps": 640, "seed": 7},
        "generate": {"seed": 2, "sample_sets": 2},
        "evaluate": {"k": 5},
        "compute": {"kernels": "portable"},
    }
    assert judged(here(), there(), ({"ncsn": train}, {"ncsn": repeat})).verdict == "reproduced"
    longer = train | {"train": {"steps": 1280, "seed": 0}}
    found = judged(here(), there(), ({"ncsn": longer}, {"ncsn": repeat}))
    assert (found.verdict, found.reason) == ("cannot tell", "other settings: train.steps 1280 against 640")


def test_without_published_repeats_nothing_is_told() -> None:
    found = judged(here(), row("ncsn", made(np.random.default_rng(0), (1, 2)), (1, 2)))
    assert (found.verdict, found.reason) == ("cannot tell", "the published run has no spread between trainings")


def test_the_text_has_a_line_for_each_row_and_states_the_margins() -> None:
    rng = np.random.default_rng(0)
    shown = table(row("ncsn", made(rng, (1, 1), {"fid": 3.0})), row("edm", nfe=5), row("tuned", estimates(14.0)))
    lines = text(compare(shown, reference(rng), MARGIN), "docs/results/digits", MARGIN).splitlines()
    assert "docs/results/digits" in lines[0] and "90% intervals" in lines[0]
    assert "Margin: 40% of the published value" in lines[1]
    ncsn, edm, tuned = (re.split(" {2,}", line) for line in lines[4:])
    assert ncsn[:2] == ["ncsn, with denoising", "not reproduced"]
    assert [cell[-1] for cell in ncsn[2:]] == ["!", "=", "=", "="]
    assert edm == ["edm, with denoising", "cannot tell", "not measured here"]
    assert tuned[:2] == ["tuned, with denoising", "reproduced"]
    assert tuned[3:] == ["-", "-", "-"], "measures that one side lacks"
    assert max(map(len, lines)) <= 110


def test_one_reason_for_every_row_is_said_once() -> None:
    rows = (here(), dataclasses.replace(here(), denoised=False))
    found = compare(table(*rows), table(*rows, data="other"), MARGIN)
    assert text(found, "p", MARGIN) == "Against p, every row: cannot tell, other data\n"


def test_a_published_value_below_zero_is_not_compared() -> None:
    below = nested("kid", [[-0.01], [-0.02], [-0.03]])
    published = row("ncsn", estimates(nested("fid", [[13.9], [14.0], [14.1]]), kid=below), (3, 1))
    (found,) = compare(table(row("ncsn", estimates(14.0, kid=0.1))), table(published), MARGIN)
    assert [one.measure for one in found.differences] == ["fid"]


def test_of_many_settings_the_first_are_named() -> None:
    mine, theirs = ({"ncsn": {"train": dict.fromkeys("abcd", value)}} for value in (1, 2))
    reason = judged(here(), there(), (mine, theirs)).reason
    assert reason == "other settings: train.a 1 against 2, train.b 1 against 2 and 2 more"
