"""Stage `generate VARIANT`: samples by annealed Langevin dynamics, with and without the last denoising step."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from pipeline import door, tracking
from pipeline.distributed import cluster, sample
from pipeline.distributed.shards import Sampler
from pipeline.files import read_yaml, sha256, whole_folder, write_json
from pipeline.params import Params
from pipeline.training.state import load_network

ARTIFACTS = Path("artifacts")


def main(params: Params, variant: str) -> None:
    """artifacts/{models/<variant>,sampler/<variant>.yaml} -> artifacts/samples/<variant>."""
    sampler = Sampler.read(read_yaml(ARTIFACTS / f"sampler/{variant}.yaml"))
    network = load_network(ARTIFACTS / "models" / variant)
    with tracking.stage("generate", variant, params) as run:
        made = _generate(params, network, sampler)
        manifest = {
            **params.generate.kwargs(),
            "nfe": made.nfe,
            "seconds": made.seconds,
            "sampler": asdict(sampler),
        }
        with whole_folder(ARTIFACTS / "samples" / variant) as folder:
            for name in ("raw", "denoised", "intermediate"):
                np.save(folder / f"{name}.npy", getattr(made, name))
            manifest["sha256"] = {path.stem: sha256(path) for path in sorted(folder.glob("*.npy"))}
            write_json(folder / "manifest.json", manifest)
            run.log_artifact(folder)
        run.log_metrics({"nfe": made.nfe, "seconds": made.seconds})
