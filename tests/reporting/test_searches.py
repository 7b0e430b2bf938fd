"""The pictures of the search for a noise range: where a trial's line runs, and which search they show."""

from pathlib import Path

import pytest

from pipeline.reporting.figures import searches, trials
from pipeline.reporting.figures.trials import NOISE_LAW, parallel

LAWS = [
    {"trial": "1", "p_mean": "-1.5", "p_std": "0.5", "fid": "4.0", "steps": "80", "status": "finished"},
    {"trial": "2", "p_mean": "0.5", "p_std": "2.0", "fid": "1.0", "steps": "80", "status": "finished"},
    {"trial": "3", "p_mean": "-0.5", "p_std": "1.0", "fid": "2.0", "steps": "40", "status": "stopped"},
    {"trial": "4", "p_mean": "-9.0", "p_std": "1.0", "fid": "", "steps": "", "status": "failed"},
]


def written(folder: Path) -> Path:
    folder.mkdir(parents=True)
    text = "\n".join([",".join(LAWS[0]), *(",".join(row.values()) for row in LAWS)])
    (folder / "trials.csv").write_text(text + "\n")
    return folder


def test_a_line_runs_by_differences_of_p_mean_and_by_ratios_of_what_is_positive() -> None:
    (axes,) = parallel(LAWS, searches.NOISE_AXES).axes
    drawn = {line.get_linestyle(): line for line in axes.lines if len(line.get_xdata()) == 3}
    assert len([line for line in axes.lines if len(line.get_xdata()) == 3]) == 3, "none of the failed one"
    assert list(drawn["--"].get_ydata()) == pytest.approx([0.5, 0.5, 0.5]), "the stopped one"
    assert list(drawn["--"].get_xdata()) == [0, 1, 2], "no axis of a sampler's name"


def test_every_trial_is_seen_on_a_white_page_and_on_a_dark_one() -> None:
    (axes,) = parallel(LAWS, searches.NOISE_AXES).axes
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    greens = [line.get_color()[1] for line in lines]
    assert min(greens) > 0.38 and max(greens) < 0.88, "neither the map's violet nor its yellow"


def test_a_search_for_a_law_is_told_from_one_for_a_ladder(tmp_path: Path) -> None:
    written(tmp_path / "artifacts/tune_noise")
    first, second = searches.noise_figures(tmp_path / "figures", tmp_path / "artifacts")
    assert "EDM's law" in first.caption and "ladder" not in first.caption and first.drawn
    assert second.pictures[0].files == ("parallel_noise.png", "parallel_noise.svg")
    best = trials.best_trial(trials.read_trials(tmp_path / "artifacts/tune_noise/trials.csv", NOISE_LAW))
    assert best.number == 2
    assert [p.name for p in (tmp_path / "artifacts/tune_noise").iterdir()] == ["trials.csv"], "no pictures"


def test_without_a_search_there_is_one_place_and_no_picture(tmp_path: Path) -> None:
    (only,) = searches.noise_figures(tmp_path / "figures", tmp_path / "artifacts")
    assert not only.drawn and "ladder" in only.caption
