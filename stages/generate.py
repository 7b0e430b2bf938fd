"""Stage `generate ROW`: samples of a row's network by its sampler, with and without the last denoising."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline import entry, selected_checkpoint, tracking
from pipeline.data.dataset import open_dataset
from pipeline.files import read_json, read_yaml, sha256, whole_folder, write_json
from pipeline.generate import generate, inpaint, select_checkpoint
from pipeline.ncsn.prior import Law
from pipeline.ncsn.sampler import Sampler
from pipeline.params import Params
from pipeline.seeds import table_rows
from pipeline.training.checkpoints import load_network
from pipeline.training.snapshots import candidates

ARTIFACTS = Path("artifacts")


def main(params: Params, row: str) -> None:
    """artifacts/{data,features,models/NETWORK,sampler/ROW.yaml} -> artifacts/{samples,selection,metrics}."""
    name, network, offset = table_rows(params.rows, params.extra_seeds)[row]
    sampler = Sampler.read(read_yaml(ARTIFACTS / f"sampler/{name}.yaml")["sampler"])
    model, out = ARTIFACTS / "models" / network, ARTIFACTS / "samples" / row
    networks, trained = candidates(model), read_json(model / "state.json")["task"]["network"]
    shape = (trained["channels"], trained["image_size"], trained["image_size"])
    with tracking.stage("generate", row, params) as run:
        data = open_dataset(ARTIFACTS / "data")
        law = Law.of(data.split("train")) if sampler.start else None
        settings = {"shape": shape, "law": law, **_settings(params, offset)}
        apart = params.generate.selection.kwargs()
        apart |= {"seed": apart["seed"] + offset, "reference": ARTIFACTS / "features"}
        choice = select_checkpoint.choose(networks, sampler, **settings | apart)
        score = load_network(choice.folder)
        made = generate.generate(score, sampler, **settings)
        manifest = params.generate.model_dump(exclude={"selection"}) | {"seed": settings["seed"]}
        manifest |= {"nfe": made.nfe, "sampler": sampler.plain()}
        with whole_folder(out) as folder:
            for name in ("raw", "denoised", "intermediate"):
                np.save(folder / f"{name}.npy", getattr(made, name))
            images = data.split("held_out")
            inpaint.write_inpainting(folder, score, sampler, trained["sigmas"], images, params, settings["seed"])
            manifest["sha256"] = {path.name: sha256(path) for path in sorted(folder.glob("*.npy"))}
            write_json(folder / "manifest.json", manifest)
        # Apart from the samples: a clock repeats no bits.
        write_json(ARTIFACTS / f"metrics/generate_{row}.json", {"seconds": made.seconds})
        selected_checkpoint.write_selection(ARTIFACTS, row, choice.folder, choice.about)
        made.discard()
        choice.discard()
        run.log_metrics({"nfe": made.nfe, "seconds": made.seconds})
        run.set_tags({"samples.sha256": sha256(out / "manifest.json")})
        run.log_samples(out)
        run.log_artifact(out)
        for step, fids in choice.curve():
            run.log_metrics(fids, step)
        start = ARTIFACTS / "data" if law else None
        run.log_network(choice.folder, f"ncsn-{params.preset}-{row}", shape, out / "manifest.json", start)


def _settings(params: Params, offset: int) -> dict[str, Any]:
    """`generate` as one call: set k holds samples k N ... (k + 1) N - 1 of one seed, which no set shares."""
    settings = params.generate.model_dump(exclude={"selection"})
    total = settings.pop("sample_sets") * settings["num_samples"]
    compute = {key: getattr(params.compute, key) for key in ("workers", "cpus_per_worker", "use_gpu")}
    own = {"num_samples": total, "seed": settings["seed"] + offset, "storage": Path(params.compute.storage)}
    return settings | compute | own


if __name__ == "__main__":
    entry.run(main, submits=True)
