"""Stage `toy`: figures 2 and 3 of the 2019 paper on a mixture of two Gaussians, and their numbers."""

from pathlib import Path

from pipeline import door, toy, tracking
from pipeline.files import whole_folder, write_json
from pipeline.params import Params
from pipeline.reporting import style
from pipeline.reporting.toy import samples, score_fields

OUT, METRICS = Path("artifacts/toy"), Path("artifacts/metrics/toy.json")


def main(params: Params) -> None:
    """Nothing -> artifacts/toy/{fig2,fig3}.png and .svg, artifacts/metrics/toy.json."""
    with tracking.stage("toy", None, params) as run:
        made = toy.run(**params.toy.kwargs())
        with whole_folder(OUT) as folder:
            style.save(score_fields(made.fields), folder, "fig2")
            style.save(samples(made.panels), folder, "fig3")
        write_json(METRICS, made.metrics())
        run.log_metrics(made.metrics())
        run.log_artifact(OUT)


if __name__ == "__main__":
    door.run(main)
