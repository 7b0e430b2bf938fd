"""Stage `generate VARIANT`: samples by the variant's sampler, with and without the last denoising."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import Module

from pipeline import door, tracking
from pipeline.data.dataset import open_dataset
from pipeline.distributed import cluster, inpaint, sample
from pipeline.distributed.shards import Shape
from pipeline.files import read_json, read_yaml, sha256, whole_folder, write_json
from pipeline.params import Params
from pipeline.samplers.settings import Sampler
from pipeline.training.state import load_network

ARTIFACTS = Path("artifacts")


def main(params: Params, variant: str) -> None:
    """artifacts/{data,models/V,sampler/V.yaml} -> artifacts/{samples/V,metrics/generate_V.json}."""
    sampler = Sampler.read(read_yaml(ARTIFACTS / f"sampler/{variant}.yaml"))
    model = ARTIFACTS / "models" / variant
    network, trained = load_network(model), read_json(model / "state.json")["task"]["network"]
    shape = (trained["channels"], trained["image_size"], trained["image_size"])
    with tracking.stage("generate", variant, params) as run:
        made = _generate(params, network, sampler, shape)
        manifest = {
            **params.generate.kwargs(),
            "nfe": made.nfe,
            "sampler": sampler.plain(),
        }
        with whole_folder(ARTIFACTS / "samples" / variant) as folder:
            for name in ("raw", "denoised", "intermediate"):
                np.save(folder / f"{name}.npy", getattr(made, name))
            held_out = open_dataset(ARTIFACTS / "data").split("held_out")
            inpaint.write(folder, network, sampler, held_out, manifest, params.compute.use_gpu)
            manifest["sha256"] = {path.name: sha256(path) for path in sorted(folder.glob("*.npy"))}
            write_json(folder / "manifest.json", manifest)
        # Apart from the samples: a clock repeats no bits.
        write_json(ARTIFACTS / f"metrics/generate_{variant}.json", {"seconds": made.seconds})
        run.log_metrics({"nfe": made.nfe, "seconds": made.seconds})
        run.log_artifact(ARTIFACTS / "samples" / variant)


def _generate(params: Params, network: Module, sampler: Sampler, shape: Shape) -> sample.Samples:
    compute = params.compute
    work = partial(sample.generate, network, sampler, shape=shape, **params.generate.kwargs())
    if not cluster.is_remote() and torch.cuda.device_count() <= 1:
        gpu = cluster.local_gpu(compute.use_gpu)
        return work(remote=False, workers=compute.workers * compute.cpus_per_worker, use_gpu=gpu)
    with cluster.connect(
        workers=compute.workers, cpus_per_worker=compute.cpus_per_worker, use_gpu=compute.use_gpu
    ) as gpus:
        return work(remote=True, use_gpu=gpus > 0)


if __name__ == "__main__":
    door.run(main, submits=True)
