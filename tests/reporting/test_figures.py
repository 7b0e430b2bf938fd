"""Figures: the pixels are the data's, no text lies on another, and the same numbers give the same file."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from matplotlib.tri._tricontour import TriContourSet
from PIL import Image

from pipeline import toy
from pipeline.generate.draw import evenly
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.ncsn.sampler import Sampler
from pipeline.reporting import page
from pipeline.reporting.figures import contours, grids, samples, searches, style, trials
from pipeline.reporting.figures import curves as lines
from pipeline.reporting.figures import toy as toy_figures
from pipeline.reporting.figures.contours import Mapped
from pipeline.reporting.figures.trials import NOISE_LAW, NOISE_RANGE, STEP_SIZE, Trial, parallel
from pipeline.reporting.read_table import CheckpointChoice, Snapshot
from pipeline.reporting.rows import FLOOR, Row
from tests.reporting.conftest import estimates

SLACK = 0.5  # pixels by which boxes may touch


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Figure], dict[Text, Bbox]]:
    """The texts that a figure really draws, tick labels among them, with their boxes in pixels."""
    drawn: dict[Text, Bbox] = {}
    original = Text.draw

    def record(self: Text, renderer: object, *args: object, **kwargs: object) -> None:
        if self.get_visible() and self.get_text().strip():
            drawn[self] = self.get_window_extent(renderer)  # type: ignore[arg-type]
        original(self, renderer, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Text, "draw", record)

    def read(figure: Figure) -> dict[Text, Bbox]:
        FigureCanvasAgg(figure).draw()
        drawn.clear()  # the first drawing settles the layout
        FigureCanvasAgg(figure).draw()
        return dict(drawn)

    return read


def clashes(boxes: dict[Text, Bbox]) -> list[tuple[str, str]]:
    def cross(a: Bbox, b: Bbox) -> bool:
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        return width > SLACK and min(a.y1, b.y1) - max(a.y0, b.y0) > SLACK

    pairs = combinations(boxes.items(), 2)
    return [(one.get_text(), two.get_text()) for (one, a), (two, b) in pairs if cross(a, b)]


def outside(boxes: dict[Text, Bbox], figure: Figure) -> list[str]:
    width, height = figure.bbox.width, figure.bbox.height
    return [
        text.get_text()
        for text, box in boxes.items()
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK
    ]


def images(count: int, size: int = 8, channels: int = 1) -> grids.Images:
    return np.random.default_rng(0).integers(0, 256, (count, channels, size, size), dtype=np.uint8)


def panels(count: int, size: int = 8) -> list[grids.GridPanel]:
    return [
        grids.GridPanel(f"row_{i}", "with denoising, FID 1234.56 (N=50,000)", images(40, size)) for i in range(count)
    ]


def some_trials(search: trials.TrialAxes, low: float, high: float, count: int = 12) -> list[Trial]:
    rng = np.random.default_rng(0)

    def draw(axis: trials.Axis) -> float:
        return float(rng.integers(1, 30)) if axis.whole else float(np.exp(rng.uniform(np.log(low), np.log(high))))

    settings = [{axis.column: draw(axis) for axis in search.axes} for _ in range(count)]
    return [Trial(i + 1, s, float(rng.gamma(2, 10)), (180, 360, 720)[i % 3]) for i, s in enumerate(settings)]


def tried_noise(names: Sequence[str]) -> list[dict[str, str]]:
    """Trials of the search for a noise range by these settings, p_mean on both sides of 0."""
    rng = np.random.default_rng(0)
    rows = [dict(zip(names, rng.uniform(0.01, 90, len(names)), strict=True)) for _ in range(9)]
    rows = [row | ({"p_mean": row["p_mean"] - 45} if "p_mean" in row else {}) for row in rows]
    good = [
        {name: str(value) for name, value in row.items()} | {"fid": str(9.9 + place), "status": status}
        for place, (row, status) in enumerate(zip(rows, ["finished", "stopped", "stopped"] * 3, strict=True))
    ]
    return [*good, {**dict.fromkeys(names, "1"), "fid": "", "status": "failed"}]


def some_laws() -> list[Trial]:
    """Trials with p_mean on both sides of 0."""
    found = some_trials(NOISE_LAW, 0.5, 2.0)
    return [replace(t, settings={**t.settings, "p_mean": t.settings["p_mean"] - 1.2}) for t in found]


def curves(count: int, top: float) -> dict[str, tuple[lines.Floats, lines.Floats]]:
    seen = np.linspace(top / 50, top, 50)
    return {f"row_{i}": (seen, 10 + i + 400 * np.exp(-seen / top * 9)) for i in range(count)}


def score_fields() -> toy.ScoreFields:
    axis = np.linspace(-8, 8, 20, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), axis=-1)
    return toy.ScoreFields(points, -points, 0.5 - points, -np.square(points).sum(-1) / 20, np.zeros(3, np.float32))


def toy_panels() -> list[toy.SamplePanel]:
    rng = np.random.default_rng(0)
    return [
        toy.SamplePanel(name, rng.normal(0, 5, (99, 2)).astype(np.float32), 0.8071, 1.4363)
        for name in toy_figures.TITLES
    ]


def loss_curves() -> list[toy.LossCurve]:
    rng = np.random.default_rng(0)
    return [toy.LossCurve(sigma, rng.normal(0, 1e6, 400).astype(np.float32)) for sigma in (0.0, 0.01, 0.16)]


def divergences() -> list[toy.Divergence]:
    names = [name for name in toy_figures.TITLES if name.startswith("annealed")]
    return [toy.Divergence(name, 4.0 ** np.arange(30, dtype=np.float32)) for name in names]


def tried(count: int = 20) -> list[dict[str, str]]:
    """Trials whose FID is the product of the two settings that matter."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        row = {name: float(rng.uniform(1, 90)) for name in contours.LABELS}
        status = "stopped" if number % 3 else "finished"
        rows.append({**{k: str(v) for k, v in row.items()}, "status": status, "fid": str(row["sigma_max"])})
    return [*rows, {"status": "failed", "fid": ""}]


def test_contours_have_the_trials_fid_between_them_and_nothing_beyond() -> None:
    pair = ("sigma_max", "sigma_min")
    corners = [("1", "1", "10"), ("100", "1", "1000"), ("1", "100", "10"), ("100", "100", "1000")]
    rows = [{"sigma_max": x, "sigma_min": y, "fid": f, "status": "finished"} for x, y, f in corners]
    drawn = contours.contours(Mapped.read(rows, [pair, pair]), [pair, pair])
    assert drawn is not None
    panel = drawn.axes[0]
    (filled,) = [found for found in panel.collections if isinstance(found, TriContourSet)]

    def between(x: float) -> list[float]:
        """The FIDs that the colour at (x, 9) stands for."""
        known = [place for place, path in enumerate(filled.get_paths()) if path.contains_point((x, 9.0))]
        return [float(value) for place in known for value in filled.levels[place - 1 : place + 1]]

    for x, fid in ((2.3, 23), (9.5, 95), (50.0, 500)):
        low, high = between(x)
        assert low <= fid <= high, "linear in logarithms"
    assert not between(0.5)
    low, high = panel.get_xlim()
    assert low < 1 and high > 100, "dots at the edge are whole"
    assert contours.contours(Mapped.read(rows[:2], [pair, pair]), [pair, pair]) is None
    line = [{**row, "sigma_min": row["sigma_max"]} for row in rows]
    assert contours.contours(Mapped.read(line, [pair, pair]), [pair, pair]) is None


@pytest.mark.parametrize(("count", "shown"), [(14, "over two settings"), (15, "between the trials"), (1, "none")])
def test_few_trials_are_points_of_their_fid_and_no_contours(count: int, shown: str, tmp_path: Path) -> None:
    folder = tmp_path / "tune_noise"
    folder.mkdir()
    rows = tried(count)
    lines = [",".join(rows[0]), *(",".join(row.get(name, "") for name in rows[0]) for row in rows)]
    (folder / "trials.csv").write_text("\n".join(lines) + "\n")
    titles = [entry.title for entry in contours.contour_figures(tmp_path / "figures", tmp_path, "tune_noise")]
    assert titles == ([f"Noise range: FID {shown}"] if count > 1 else [])
    drawn = contours.points(Mapped.read(rows, [("sigma_max", "sigma_min")]), [("sigma_max", "sigma_min")])
    if count == 1:
        assert drawn is None, "one trial has no other to be compared with"
        return
    assert drawn is not None
    (dots,) = drawn.axes[0].collections
    assert np.allclose(dots.get_offsets()[:, 0], dots.get_array()), "the FID of these trials is their sigma_max"
    assert [float(row["sigma_min"]) for row in rows[:-1]] == dots.get_offsets()[:, 1].tolist()
    assert (dots.get_sizes() > 50).tolist() == [row["status"] == "finished" for row in rows[:-1]]
    assert not [found for found in drawn.axes[0].collections if isinstance(found, TriContourSet)]


def contrast(colour: Sequence[float], ground: str) -> float:
    """Of two colours by WCAG 2, from 1 to 21."""
    channels = [*np.asarray(colour[:3]), *np.array([int(ground[i : i + 2], 16) for i in (1, 3, 5)]) / 255]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    first, second = (np.dot((0.2126, 0.7152, 0.0722), linear[i : i + 3]) + 0.05 for i in (0, 3))
    return float(max(first, second) / min(first, second))


def test_the_best_fids_are_seen_on_a_dark_page_and_the_worst_on_a_white_one() -> None:
    light, dark = page.COLOURS["ground"]
    assert contrast(style.SEQUENTIAL(0.0), dark) > 3 and contrast(style.SEQUENTIAL(0.0), light) > 3
    assert contrast(style.SEQUENTIAL(1.0), dark) > 3 and contrast(style.SEQUENTIAL(1.0), light) > 1.8
    assert contrast((0, 0, 0), "#ffffff") == pytest.approx(21), "the formula's own ends"


def every_figure() -> Iterator[tuple[str, Figure]]:
    yield "grid of one", grids.grid(panels(1), 2, 5)
    yield "grid of five", grids.grid(panels(5), 3, 16)
    yield "grid of photographs", grids.grid(panels(4, 32), 4, 8)
    labels = ["σ = 50", *(f"{sigma:.2g}" for sigma in np.geomspace(40, 0.0123, 30))]
    yield "strip", grids.strip(images(31 * 4).reshape(31, 4, 1, 8, 8), labels)
    some = images(8 * 6).reshape(8, 6, 1, 8, 8)
    groups = [
        grids.Group("sample", some[:, :1]),
        grids.Group("nearest in pixels", some),
    ]
    yield "neighbours", grids.groups([*groups, grids.Group("nearest in features", some)])
    yield "completions", grids.groups([groups[0], grids.Group("original", some[:, :1])])
    costs = np.geomspace(3, 2311, 6)
    kinds = ["predictor_corrector", *(f"sampler_{i}" for i in range(6))]
    curves_of = {name: (costs, 500 / costs + place) for place, name in enumerate(kinds)}
    rows = [Row(f"row_{i}", True, "c", measures=estimates(3.0 + i), n=50_000, nfe=100 + i) for i in range(4)]
    rows.append(Row(FLOOR, None, "c", measures=estimates(0.5), n=50_000))
    yield "frontier", lines.frontier_plot(lines.FrontierCurves(curves_of, 50_000), rows)
    points = tuple(Snapshot(step, 30 + 1e6 / step, 40.0) for step in range(5000, 300_001, 5000))
    chosen = CheckpointChoice(points, 300_000, "raw", 1000, 5000)
    yield "choices", lines.choice_curves({f"tuned_fewest-{i}": chosen for i in range(6)})
    yield "three curves", lines.loss_curves(curves(3, 128_000))
    yield "many long curves", lines.loss_curves(curves(5, 38_400_000))
    for low, high in ((1e-7, 1e-2), (2e-6, 2e-4), (0.2, 5.0), (0.9, 1.3)):
        yield f"step sizes {low}", trials.trials(some_trials(STEP_SIZE, low, high), STEP_SIZE)
    yield "noise ranges", trials.trials(some_trials(NOISE_RANGE, 0.005, 50), NOISE_RANGE)
    yield "one trial", trials.trials(some_trials(STEP_SIZE, 1e-6, 1e-5, 1), STEP_SIZE)
    for search, (_, pairs) in contours.SEARCHES.items():
        for draw, count in ((contours.contours, 20), (contours.points, 6)):
            drawn = draw(Mapped.read(tried(count), pairs), pairs)
            assert drawn is not None
            yield f"{draw.__name__} of {search}", drawn
    judged = [searches.ShownPoint(kind, 10.0 * n, 9.0 / n, n < 4, ()) for n, kind in enumerate(kinds, 1)]
    marks = ("analytic", "fewest_nfe", "knee", "lowest_fid")
    judged += [searches.ShownPoint("langevin", 90.0 + n, 3.0, False, (name,)) for n, name in enumerate(marks)]
    best = {"baseline": {"network": "ncsnv2", "nfe": 106, "fid_again": 12.5}}
    yield "front of samplers", searches.front(judged, best)
    settings = dict.fromkeys(searches.SAMPLER_AXES, 0.0123) | {"fid": 9.87}
    tries = [
        {name: str(value * place) for name, value in settings.items()} | {"kind": kind, "status": "finished"}
        for place, kind in enumerate(kinds, 1)
    ]
    yield "parallel coordinates", parallel(tries, searches.SAMPLER_AXES)
    yield "noise laws", trials.trials(some_laws(), NOISE_LAW)
    for names in (("sigma_max", "sigma_min", "num_levels"), ("p_mean", "p_std")):
        yield f"parallel coordinates of {names}", parallel(tried_noise(names), searches.NOISE_AXES)
    setting = {"width": 32, "batch_size": 128, "steps": 49_999, "lr": 0.00123}
    yield "toy, figure 1", toy_figures.toy_loss_curves(loss_curves(), "fashion_mnist", setting)
    yield "toy, figure 2", toy_figures.score_fields(score_fields())
    yield "toy, figure 3", toy_figures.toy_samples(toy_panels(), divergences())


def test_no_text_lies_on_another_or_leaves_the_figure(texts: Callable[[Figure], dict[Text, Bbox]]) -> None:
    for name, figure in every_figure():
        boxes = texts(figure)
        assert boxes and not clashes(boxes) and not outside(boxes, figure), (
            name,
            clashes(boxes),
            outside(boxes, figure),
        )


def test_the_check_of_overlaps_catches_a_planted_one(texts: Callable[[Figure], dict[Text, Bbox]]) -> None:
    figure = lines.loss_curves(curves(2, 1000))
    figure.text(0.5, 0.02, "on the label of the axis", ha="center")
    figure.text(0.95, 0.5, "beyond the edge of the figure")
    boxes = texts(figure)
    assert ("images seen in training", "on the label of the axis") in clashes(boxes)
    assert outside(boxes, figure) == ["beyond the edge of the figure"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("factor", "gap"), [(1, 1), (5, 3)])
def test_mosaic_is_the_images_and_white(channels: int, factor: int, gap: int) -> None:
    some = images(5, channels=channels)
    picture = grids.mosaic(some, 2, 3, factor, gap)
    pitch = 8 * factor + gap
    assert picture.shape == (2 * pitch - gap, 3 * pitch - gap, 3)
    inside = np.zeros(picture.shape, bool)
    for place, image in enumerate(some):
        top, left = place // 3 * pitch, place % 3 * pitch
        square = picture[top : top + 8 * factor, left : left + 8 * factor]
        inside[top : top + 8 * factor, left : left + 8 * factor] = True
        for row, column in np.ndindex(factor, factor):
            assert (square[row::factor, column::factor] == image.transpose(1, 2, 0)).all()
    assert (picture[~inside] == 255).all()


@pytest.mark.parametrize("size", [8, 32])
def test_saved_grid_holds_every_pixel_of_the_data(tmp_path: Path, size: int) -> None:
    some = panels(3, size)
    style.save(grids.grid(some, 2, 4), tmp_path, "grid", vector=False)
    saved = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB"))
    width = (style.WIDTH * style.DPI - 2 * grids.EDGE - grids.GUTTER) / 2
    factor = int((width / 4 - 1) // size)
    expected = grids.mosaic(some[2].images, 2, 4, factor, 1 + factor // 2)
    height, across = expected.shape[:2]
    bottom = saved.shape[0] - grids.EDGE
    assert (saved[bottom - height : bottom, grids.EDGE : grids.EDGE + across] == expected).all()


def test_files_are_whole_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        files = style.save(lines.loss_curves(curves(3, 1e5)), tmp_path / name, "loss")
        assert files == ["loss.png", "loss.svg"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert np.asarray(Image.open(tmp_path / "one/loss.png").convert("L")).std() > 5
    assert ElementTree.parse(tmp_path / "one/loss.svg").getroot().tag.endswith("svg")


def test_the_house_style_stays_in_the_house() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    lines.loss_curves(curves(1, 100))
    assert dict(matplotlib.rcParams) == before


def test_best_trial_is_judged_on_the_largest_budget() -> None:
    found = [Trial(1, {}, 5.0, 720), Trial(2, {}, 1.0, 180), Trial(3, {}, 4.0, 720), Trial(4, {}, 4.0, 720)]
    assert trials.best_trial(found).number == 3


@pytest.mark.parametrize("number", [1, 7, 99])
def test_the_analytic_choice_is_ringed_where_it_is_and_nowhere_where_it_is_not(number: int) -> None:
    found = some_trials(STEP_SIZE, 1e-6, 1e-5)
    for axis, panel in zip(STEP_SIZE.axes, trials.trials(found, STEP_SIZE, number).axes, strict=True):
        rings = [ring for ring in panel.collections if ring.get_label() == "analytic choice"]
        places = [tuple(place) for ring in rings for place in np.asarray(ring.get_offsets())]
        assert places == [(t.settings[axis.column], t.fid) for t in found if t.number == number]


def test_smoothing_keeps_a_line_and_lowers_noise() -> None:
    ramp = np.linspace(3.0, 7.0, 101)
    assert np.allclose(style.smoothed(ramp)[5:-5], ramp[5:-5])
    assert np.allclose(style.smoothed(np.full(7, 2.5)), 2.5)
    noise = np.random.default_rng(0).normal(size=1000)
    assert style.smoothed(noise).std() < noise.std() / 4
    assert style.smoothed(np.array([4.0])) == pytest.approx([4.0])


def test_trials_that_failed_are_left_out(artifacts: Path) -> None:
    found = trials.read_trials(artifacts / "tune_sampler/trials.csv", STEP_SIZE)
    assert [trial.number for trial in found] == list(range(1, 19))


@pytest.mark.parametrize("content", [None, "step,images\n1,2\n", "images,loss\n1,two\n"])
def test_a_csv_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "curve.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"curve\.csv"):
        lines.read_columns(path, ("images", "loss"))


def test_the_strip_is_labelled_with_the_levels_that_the_sampler_keeps(tmp_path: Path) -> None:
    folder = tmp_path / "samples/v"
    folder.mkdir(parents=True)
    sampler = Sampler.langevin(Ladder(50.0, 0.01, 232), step_size=1e-5, steps_per_level=1).plain()
    manifest = {"num_samples": 2, "nfe": {}, "sha256": {}, "sampler": sampler}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    np.save(folder / "intermediate.npy", images(12 * 2).reshape(12, 2, 1, 8, 8))
    way = samples.read_way(tmp_path, "v")
    sigmas = geometric_sigmas(50.0, 0.01, 232)[evenly(232, 12)]
    first, *rest = (f"{float(sigma):.2g}" for sigma in sigmas)
    assert way is not None and way.labels() == [f"σ = {first}", *rest]


def test_a_trial_that_failed_after_a_rung_is_not_the_best(tmp_path: Path) -> None:
    """As in the search itself, where it cannot win."""
    (tmp_path / "trials.csv").write_text(
        "trial,sigma_max,sigma_min,num_levels,fid,steps,status\n"
        "1,2.0,0.01,5,9.0,80,stopped\n2,1.0,0.01,5,1.0,160,failed\n3,1.5,0.01,5,8.0,80,stopped\n"
    )
    found = trials.read_trials(tmp_path / "trials.csv", NOISE_RANGE)
    assert [trial.number for trial in found] == [1, 3] and trials.best_trial(found).number == 3


@pytest.mark.parametrize(("changed", "called"), [({}, "digits; the paper's: "), ({"lr": 3e-3}, "digits; reduced: ")])
def test_a_reduced_training_is_called_so(changed: dict[str, float], called: str) -> None:
    figure = toy_figures.toy_loss_curves(loss_curves(), "digits", toy_figures.PAPER | changed)
    assert figure.get_supxlabel().startswith(called)
