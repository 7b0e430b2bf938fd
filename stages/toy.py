"""Stage `toy`: figures 1, 2 and 3 of the 2019 paper, and their numbers."""

from pathlib import Path

from pipeline import entry, toy, tracking
from pipeline.data.dataset import open_dataset
from pipeline.files import whole_folder, write_json
from pipeline.params import Params
from pipeline.reporting.figures import style
from pipeline.reporting.figures.toy import score_fields, toy_loss_curves, toy_samples

DATA = Path("artifacts/data")
OUT, METRICS = Path("artifacts/toy"), Path("artifacts/metrics/toy.json")


def main(params: Params) -> None:
    """artifacts/data -> artifacts/toy/{fig{1,2,3}.{png,svg},numbers.json}, artifacts/metrics/toy.json."""
    with tracking.stage("toy", None, params) as run:
        data, setting = open_dataset(DATA), params.toy.kwargs()
        made = toy.run_toys(data.split("train"), **setting)
        with whole_folder(OUT) as folder:
            style.save(toy_loss_curves(made.curves, data.manifest["name"], setting["losses"]), folder, "fig1")
            style.save(score_fields(made.fields), folder, "fig2")
            style.save(toy_samples(made.panels, made.divergences), folder, "fig3")
            write_json(folder / "numbers.json", made.metrics())
        write_json(METRICS, made.headline())
        run.log_metrics(made.metrics())
        run.log_artifact(OUT)


if __name__ == "__main__":
    entry.run(main)
