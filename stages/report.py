"""Stage `report`: the table next to the papers', the figures, the model card, and one page that shows them."""

from pathlib import Path

from pipeline import entry, tracking
from pipeline.data.dataset import open_dataset
from pipeline.files import sha256
from pipeline.params import Params
from pipeline.reporting import lineage, report

ARTIFACTS, OUT = Path("artifacts"), Path("reports")


def main(params: Params) -> None:
    """artifacts/ -> reports/{README.md,table.{md,csv,json},{model,dataset}_card.md,figures/}."""
    data = open_dataset(ARTIFACTS / "data")
    shown = {row: evaluation(params.preset, row) for row in params.rows}
    with tracking.stage("report", None, params, last=True, shows=shown.values()) as run:
        table = report.write_report(
            OUT,
            ARTIFACTS,
            params.rows,
            manifest=data.manifest,
            real=data.split("train"),
            extra_seeds=params.extra_seeds,
            runs={row: lineage.made(ARTIFACTS, row, params.preset, run.find, run.tags_of) for row in params.all_rows()},
            **params.report.kwargs(),
        )
        run.summarise(table.headline(), OUT)
        for row in table.rows:
            if row.measured and row.denoised:  # the model is read for the record alone: no file here needs it
                note = f"FID {row.fid:.2f} denoised, N={row.n}"
                run.report_network(row.model_folder, f"ncsn-{params.preset}-{row.system}", note)


def evaluation(preset: str, row: str) -> dict[str, str]:
    """The tags of the run that wrote the very numbers of a row; no run's where there are none."""
    path = ARTIFACTS / f"evaluation/{row}.json"
    digest = sha256(path) if path.exists() else "none"
    return {"stage": "evaluate", "row": row, "preset": preset, "metrics.sha256": digest}


if __name__ == "__main__":
    entry.run(main)
