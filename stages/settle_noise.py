"""Stage `settle_noise`: the noise range of each network, as given, analytic or found."""

from pathlib import Path

from pipeline import entry, settle, tracking
from pipeline.data.dataset import MANIFEST, read_manifest
from pipeline.files import whole_folder
from pipeline.params import Params

ARTIFACTS = Path("artifacts")


def main(params: Params) -> None:
    """artifacts/{data/manifest.json,tune_noise} -> artifacts/noise/NETWORK.yaml."""
    manifest = read_manifest(ARTIFACTS / "data" / MANIFEST)
    with tracking.stage("settle_noise", None, params) as run, whole_folder(ARTIFACTS / "noise") as folder:
        settle.write_noise(folder, params.noise, manifest, ARTIFACTS / "tune_noise")
        run.log_params({"settled_noise": settle.read_settled(folder)})


if __name__ == "__main__":
    entry.run(main)
