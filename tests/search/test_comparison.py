"""Laws of the front, its knee and the tie: on random points and on fronts whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.search.comparison import CostPoint, Spread, front, knee, mean, said, verdict

POINTS = st.lists(
    st.builds(CostPoint, st.text(), st.integers(1, 200), st.floats(0.1, 100, allow_nan=False)), min_size=1
)


def points(*pairs: tuple[int, float]) -> list[CostPoint]:
    return [CostPoint(str(place), *pair) for place, pair in enumerate(pairs)]


def beats(a: CostPoint, b: CostPoint) -> bool:
    return (a.nfe <= b.nfe and a.fid < b.fid) or (a.nfe < b.nfe and a.fid <= b.fid)


@given(POINTS)
def test_no_point_beats_one_of_the_front_and_every_other_is_beaten_or_equal(found: list[CostPoint]) -> None:
    on = front(found)
    assert on == sorted(on, key=lambda p: p.nfe)
    assert not any(beats(a, b) for a in found for b in on)
    rest = [p for p in found if not any(p is q for q in on)]
    assert all(any(beats(a, b) or (a.nfe, a.fid) == (b.nfe, b.fid) for a in on) for b in rest)


@given(POINTS, st.randoms())
def test_the_front_does_not_depend_on_the_order(found: list[CostPoint], random: object) -> None:
    mixed = list(found)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert [(p.nfe, p.fid) for p in front(found)] == [(p.nfe, p.fid) for p in front(mixed)]


def test_the_knee_is_where_the_front_bends_in_logarithms() -> None:
    """FID falls as 1 / NFE^2 up to 10 evaluations, hardly after: the corner is at 10."""
    on = points(*[(n, 1000 / n**2) for n in (2, 4, 8, 10)], *[(n, 10 * (10 / n) ** 0.05) for n in (20, 100)])
    assert knee(on).nfe == 10
    scaled = [CostPoint(p.name, p.nfe * 7, p.fid / 3) for p in on]
    assert knee(scaled).nfe == 70, "units do not matter"


def test_a_straight_front_and_one_that_bulges_the_other_way_have_their_knee_at_the_cheapest_end() -> None:
    assert knee(points(*[(n, 100 / n) for n in (1, 2, 4, 8, 64)])).nfe == 1
    assert knee(points((1, 100.0), (10, 90.0), (100, 1.0))).nfe == 1
    assert knee(points((5, 3.0))).nfe == 5


def test_the_spread_is_that_of_the_logarithm_pooled() -> None:
    """Scale does not enter, and two seeds of each of many samplers give what many seeds of one do."""
    rng = np.random.default_rng(0)
    fids = {str(k): list(10.0**k * np.exp(rng.normal(0, 0.1, 2))) for k in range(-3, 3) for _ in [0]}
    many = {f"{k}": list(np.exp(rng.normal(k % 7, 0.1, 2))) for k in range(2000)}
    assert Spread.of(many).std == pytest.approx(0.1, rel=0.05) and Spread.of(many).dof == 2000
    shifted = {name: [5 * fid for fid in some] for name, some in fids.items()}
    assert Spread.of(shifted).std == pytest.approx(Spread.of(fids).std)
    with pytest.raises(ValueError, match="two FIDs"):
        Spread.of({"a": [1.0]})


def test_samplers_that_are_equal_are_called_so_at_the_tests_level() -> None:
    """Two equal samplers of 2 seeds each, the spread from four samplers: a false winner in 5 of 100."""
    rng, wrong, runs = np.random.default_rng(1), 0, 1500
    for _ in range(runs):
        fids = {str(k): np.exp(rng.normal(0, 0.1, 2)).tolist() for k in range(4)}
        wrong += verdict(fids["0"], fids["1"], Spread.of(fids)) != "tie"
    assert wrong / runs == pytest.approx(0.05, abs=0.02)


def test_pairs_of_one_law_are_a_tie_at_the_tests_level() -> None:
    """Ratios about 1, of 2 seeds each of four samplers: as above, against a number without noise."""
    rng, wrong, runs = np.random.default_rng(2), 0, 1500
    for _ in range(runs):
        ratios = {str(k): np.exp(rng.normal(0, 0.03, 2)).tolist() for k in range(4)}
        wrong += said(mean(ratios["0"]), Spread.of(ratios).limit(2, math.inf)) != "tie"
    assert wrong / runs == pytest.approx(0.05, abs=0.02)


def test_a_difference_beyond_the_limit_is_a_win_or_a_loss() -> None:
    spread = Spread(0.05, 4)
    limit = spread.limit(2, 2)
    assert limit == pytest.approx(math.exp(2.776 * 0.05), rel=1e-3)
    same, more = [10.0, 10.0], [10 * limit * 1.001] * 2
    assert verdict(same, more, spread) == "better" and verdict(more, same, spread) == "worse"
    assert verdict(same, [10 * limit * 0.999] * 2, spread) == "tie" == verdict(same, same, spread)
    assert mean([2.0, 8.0]) == pytest.approx(4.0)
