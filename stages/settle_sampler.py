"""Stage `settle_sampler`: the sampler of each row in numbers, as given, analytic or found."""

from pathlib import Path

from pipeline import entry, settle, tracking
from pipeline.files import whole_folder
from pipeline.params import Params

ARTIFACTS = Path("artifacts")


def main(params: Params) -> None:
    """artifacts/{noise,tune_sampler} -> artifacts/sampler/ROW.yaml."""
    noise, found = ARTIFACTS / "noise", ARTIFACTS / "tune_sampler"
    with tracking.stage("settle_sampler", None, params) as run, whole_folder(ARTIFACTS / "sampler") as folder:
        settle.write_samplers(folder, params.sampler, params.rows, noise, found)
        run.log_params({"settled_sampler": settle.read_settled(folder)})


if __name__ == "__main__":
    entry.run(main)
