"""Neighbours, completed images, the frontier and the animation: each picture shows the data it is said to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.files import read_json, write_json
from pipeline.generate.inpaint import known_columns
from pipeline.ncsn.errors import UserError
from pipeline.reporting.figures import curves as frontier
from pipeline.reporting.figures import grids
from pipeline.reporting.figures import samples as figures
from pipeline.reporting.figures.grids import CELL, EDGE, GUTTER, Images
from pipeline.reporting.figures.style import FigureEntry
from pipeline.reporting.rows import FLOOR, Row, Table
from tests.reporting.conftest import estimates

TRAIN = np.random.default_rng(1).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)


def cell(path: Path, group: list[int], row: int, column: int) -> Images:
    """The image at a place of `pictures.groups`, (H, W, 3); `group`: columns of the groups before it."""
    saved = np.asarray(Image.open(path).convert("RGB"))
    factor = CELL // 8
    gap = factor // 3
    rows = (saved.shape[0] - EDGE - grids.TITLE + gap) // (CELL + gap)
    top = saved.shape[0] - EDGE - rows * (CELL + gap) + gap + row * (CELL + gap)
    left = EDGE + sum(n * (CELL + gap) - gap + GUTTER for n in group) + column * (CELL + gap)
    square = saved[top : top + CELL, left : left + CELL]
    assert (square == square[::factor, ::factor].repeat(factor, 0).repeat(factor, 1)).all(), "no squares"
    return square[::factor, ::factor]


def only(found: Any) -> FigureEntry:
    (shown,) = found
    assert isinstance(shown, FigureEntry)
    return shown


def test_neighbours_stand_beside_their_sample(artifacts: Path, tmp_path: Path) -> None:
    shown = only(figures.neighbour_figures(tmp_path, artifacts, ["tuned", "absent"], TRAIN))
    assert [picture.label for picture in shown.pictures] == ["tuned"]
    path, samples = tmp_path / "neighbours_tuned.png", np.load(artifacts / "samples/tuned/denoised.npy")
    nearest = read_json(artifacts / "evaluation/tuned.json")["neighbours"]
    for row in (0, 3, 7):
        assert (cell(path, [], row, 0) == samples[row].transpose(1, 2, 0)).all()
        for space, before in (("pixels", [1]), ("features", [1, 5])):
            for column in range(5):
                expected = TRAIN[nearest[space][row][column]].transpose(1, 2, 0)
                assert (cell(path, before, row, column) == expected).all(), (space, row, column)


def test_an_evaluation_without_neighbours_is_left_out(artifacts: Path, tmp_path: Path) -> None:
    path = artifacts / "evaluation/tuned.json"
    write_json(path, {key: value for key, value in read_json(path).items() if key != "neighbours"})
    assert not list(figures.neighbour_figures(tmp_path, artifacts, ["tuned"], TRAIN))


@pytest.mark.parametrize("bad", [[[0, 60]], [[-1]], [[0.5]], [[0], [1, 2]], "none", []])
def test_neighbours_that_are_no_indices_are_named(artifacts: Path, tmp_path: Path, bad: Any) -> None:
    path = artifacts / "evaluation/tuned.json"
    value = read_json(path)
    value["neighbours"]["features"] = bad
    write_json(path, value)
    with pytest.raises(UserError, match=r"tuned\.json: neighbours\.features"):
        list(figures.neighbour_figures(tmp_path, artifacts, ["tuned"], TRAIN))


def test_completions_stand_between_what_is_known_and_the_original(
    artifacts: Path, build: Callable[..., Table], tmp_path: Path
) -> None:
    shown = only(figures.completion_figures(tmp_path, artifacts, build()))
    assert [picture.files[0] for picture in shown.pictures] == ["inpainting_tuned.png"]
    path, completed = tmp_path / "inpainting_tuned.png", np.load(artifacts / "samples/tuned/inpainting.npy")
    for row in range(4):
        known, original = cell(path, [], row, 0), completed[row, 0].transpose(1, 2, 0)
        assert (known[:, : known_columns(8)] == original[:, : known_columns(8)]).all()
        assert (known[:, known_columns(8) :] == figures.VEIL).all()
        for column in range(6):
            expected = completed[row, 1 + column].transpose(1, 2, 0)
            assert (cell(path, [1], row, column) == expected).all()
        assert (cell(path, [1, 6], row, 0) == original).all()


def test_the_best_row_by_fid_completes(artifacts: Path, build: Callable[..., Table], tmp_path: Path) -> None:
    """FIDs are 18.9, 2.6 and 1.7; a row without a file, or that was not evaluated, comes after the others."""
    for row, removed in (("tuned", "samples/tuned/inpainting.npy"), ("ncsnv2", "evaluation/ncsnv2.json")):
        (picture,) = only(figures.completion_figures(tmp_path, artifacts, build())).pictures
        assert (picture.label, picture.files[0]) == (row, f"inpainting_{row}.png")
        (artifacts / removed).unlink()
    (picture,) = only(figures.completion_figures(tmp_path, artifacts, build())).pictures
    assert picture.label == "ncsn"


def test_without_completed_images_there_is_no_figure(
    artifacts: Path, build: Callable[..., Table], tmp_path: Path
) -> None:
    for path in artifacts.glob("samples/*/inpainting.npy"):
        path.unlink()
    assert not list(figures.completion_figures(tmp_path, artifacts, build()))


def test_the_frontier_is_the_csv_in_the_order_of_cost(tmp_path: Path) -> None:
    path = tmp_path / "frontier.csv"
    path.write_text("sampler,nfe,fid,num_samples\nheun,35,2.5,256\neuler,9,7,256\nheun,9,4,256\nheun,99,,256\n")
    found = frontier.read_frontier(path)
    plain = {name: [a.tolist() for a in arrays] for name, arrays in found.curves.items()}
    assert plain == {"heun": [[9, 35], [4, 2.5]], "euler": [[9], [7]]} and found.num_samples == 256


@pytest.mark.parametrize("lines", ["heun,9,4,256\nheun,9,4,128", "heun,9,four,256", ""])
def test_a_frontier_that_cannot_be_read_is_named(tmp_path: Path, lines: str) -> None:
    (tmp_path / "frontier.csv").write_text("sampler,nfe,fid,num_samples\n" + lines)
    with pytest.raises(UserError, match=r"frontier\.csv"):
        frontier.read_frontier(tmp_path / "frontier.csv")


def test_only_rows_of_as_many_samples_stand_beside_the_frontier() -> None:
    curves = {"heun": (np.array([9.0, 35.0]), np.array([4.0, 2.0]))}
    rows = [Row("edm", False, "c", measures=estimates(2.1), n=256, nfe=34)]
    rows += [Row(FLOOR, None, "c", measures=estimates(1.2), n=256)]
    (axes,) = frontier.frontier_plot(frontier.FrontierCurves(curves, 256), rows).axes
    floor = next(line for line in axes.lines if "floor" in str(line.get_label()))
    assert list(floor.get_ydata()) == [1.2, 1.2] and floor.get_linestyle() == "--"
    (marks,) = axes.collections
    assert marks.get_offsets().tolist() == [[34, 2.1]] and axes.get_xscale() == "log"


def test_rows_on_other_terms_are_left_off_the_frontier(
    artifacts: Path, tmp_path: Path, build: Callable[..., Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[Row]] = []
    original = frontier.frontier_plot
    monkeypatch.setattr(
        frontier, "frontier_plot", lambda found, rows: given.append(list(rows)) or original(found, rows)
    )
    path = artifacts / "frontier/frontier.csv"
    for text in (path.read_text(), path.read_text().replace(",720", ",500")):
        path.write_text(text)
        only(frontier.frontier_figures(tmp_path, artifacts, build()))
    assert [len(rows) for rows in given] == [7, 0]
    path.unlink()
    assert not list(frontier.frontier_figures(tmp_path, artifacts, build()))


def test_the_animation_goes_from_each_first_level_to_each_last(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 3, 1, 8, 8), dtype=np.uint8)
    long = figures.Way("long", "heun", frames, (4.0, 3.0, 2.0, 1.0, 0.5))
    short = figures.Way("short", "langevin", frames[:2], (1.0, 0.1))
    assert figures.animation(tmp_path, [long, short]).files == (figures.ANIMATION,)
    with Image.open(tmp_path / figures.ANIMATION) as image:
        shown = []
        for number in range(image.n_frames):
            image.seek(number)
            shown.append((np.asarray(image.convert("RGBA")), image.info["duration"]))
        assert image.info["loop"] == 0
    assert [time for _, time in shown] == [figures.FRAME_MS] * 4 + [figures.LAST_MS]
    factor = CELL // 8
    for number, (pixels, _) in enumerate(shown):
        for way, level, top in ((long, number, EDGE), (short, [0, 0, 0, 1, 1][number], 2 * EDGE + CELL)):
            place = (slice(top, top + CELL), slice(EDGE + figures.LABEL, EDGE + figures.LABEL + CELL))
            expected = way.images[level, 0].repeat(factor, 1).repeat(factor, 2).transpose(1, 2, 0)
            assert (pixels[place][..., :3] == expected).all(), (way.row, number)
        assert pixels[0, 0, 3] == 0, "the ground is the page's"
