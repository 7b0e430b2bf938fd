"""Stage `report`: the table beside the papers', the figures, the model card, and one page that shows them."""

from pathlib import Path

from pipeline import door, tracking
from pipeline.data.dataset import open_dataset
from pipeline.files import sha256
from pipeline.params import Params
from pipeline.reporting import report

ARTIFACTS, OUT = Path("artifacts"), Path("reports")


def main(params: Params) -> None:
    """artifacts/ -> reports/{README.md,table.md,table.csv,table.json,model_card.md,figures/}."""
    data = open_dataset(ARTIFACTS / "data")
    with tracking.stage("report", None, params, last=True) as run:
        runs = {name: evaluation(run, params.preset, name) for name in params.variants}
        report.write(
            OUT,
            ARTIFACTS,
            params.variants,
            manifest=data.manifest,
            real=data.split("train"),
            runs=runs,
            **params.report.kwargs(),
        )
        run.log_artifact(OUT)


def evaluation(run: tracking.Run, preset: str, variant: str) -> str | None:
    """The id of the run that wrote the very numbers of a variant's row; None where no record matches."""
    path = ARTIFACTS / f"metrics/{variant}.json"
    if not path.exists():
        return None
    tags = {"stage": "evaluate", "variant": variant, "preset": preset, "metrics.sha256": sha256(path)}
    return run.find(tags)


if __name__ == "__main__":
    door.run(main)
