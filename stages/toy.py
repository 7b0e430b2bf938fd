"""Stage `toy`: what figures 1, 2 and 3 of the 2019 paper show, as arrays and numbers; `report` draws them."""

from pathlib import Path

from pipeline import entry, toy, tracking
from pipeline.data.dataset import open_dataset
from pipeline.files import whole_folder, write_json
from pipeline.params import Params

DATA = Path("artifacts/data")
OUT, METRICS = Path("artifacts/toy"), Path("artifacts/metrics/toy.json")


def main(params: Params) -> None:
    """artifacts/data -> artifacts/toy/{arrays.safetensors,numbers.json}, artifacts/metrics/toy.json."""
    with tracking.stage("toy", None, params) as run:
        made = toy.run_toys(open_dataset(DATA).split("train"), **params.toy.kwargs())
        with whole_folder(OUT) as folder:
            made.save(folder)
            write_json(folder / "numbers.json", made.metrics())
        write_json(METRICS, made.headline())
        run.log_metrics(made.metrics())
        run.log_artifact(OUT)


if __name__ == "__main__":
    entry.run(main)
