"""Stage `report`: the table beside the papers', the figures, the model card, and one page that shows them."""

from pathlib import Path

from pipeline import door, tracking
from pipeline.data.dataset import open_dataset
from pipeline.params import Params
from pipeline.reporting import report

ARTIFACTS, OUT = Path("artifacts"), Path("reports")


def main(params: Params) -> None:
    """artifacts/ -> reports/{README.md,table.md,table.csv,table.json,model_card.md,figures/}."""
    data = open_dataset(ARTIFACTS / "data")
    with tracking.stage("report", None, params, last=True) as run:
        runs = {name: run.find({"stage": "evaluate", "variant": name}) for name in params.variants}
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


if __name__ == "__main__":
    door.run(main)
