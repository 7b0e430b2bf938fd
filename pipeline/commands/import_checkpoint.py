"""Import weights that the authors released: `python -m pipeline.commands.import_checkpoint FILE --kind ncsn|ncsnv2`.

FILE is a `.pth` of ermongroup/ncsnv2 (arXiv 2006.09011), a list of the network's state, the optimiser's, the
epoch, the step and the moving average, or one of the release of 2019 (arXiv 1907.05600), a list of the first
two. What comes out is what the stage `train` writes, so that no network has to be trained:

    python -m pipeline.commands.preset cifar10
    dvc repro settle_noise                    # the data, the features, the noise levels
    python -m pipeline.commands.import_checkpoint checkpoint_300000.pth --kind ncsnv2
    dvc commit -f train@ncsnv2                # DVC takes the folder as the stage's own output
    dvc repro evaluate@ncsnv2

To train and search nothing else on the way, leave only the imported networks in params.yaml: in `networks`
and `rows`, and set `num_trials` of both searches to 0.

Width and channels are read from the weights; the image size and, where the file holds none, the ladder come
from params.yaml or the options.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import files
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import make
from pipeline.ncsn.noise import geometric_sigmas
from pipeline.params import Params, load
from pipeline.training import checkpoints, log
from pipeline.training.state import fresh
from pipeline.training.task import Task

Tensors = dict[str, Tensor]
NAMED = 4
"""How many names of misfits a message spells out."""
LADDER = ("sigma_max", "sigma_min", "num_levels")
LADDER_TOLERANCE = 1e-5
"""Relative; the network itself finds its level within as much."""


@dataclasses.dataclass(frozen=True)
class Released:
    """What a released file holds, without the `module.` of DataParallel."""

    network: Tensors
    average: Tensors | None
    """The moving average of the parameters, None where the file has none."""
    steps: int
    """Optimiser steps done; 0 where the file does not say."""


def read_released(path: Path, sha256: str | None = None, *, average: bool = True) -> Released:
    """Read a released file, tensors and plain values alone: nothing in it is executed.

    Raises:
        UserError: no file, another hash than `sha256`, or not a list that begins with a network's state.
    """
    if not path.is_file():
        raise UserError(f"{path} is not a file: name the released .pth.")
    if sha256 and sha256.lower() != (found := files.sha256(path)):
        raise UserError(f"{path} has the sha256 {found}, not {sha256}: fetch it again, or correct --sha256.")
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        what = "damaged, or more than tensors and plain values"
        raise UserError(f"{path} cannot be read as weights ({what}): name a released .pth.") from error
    if not isinstance(states, list) or not states or not _is_state(states[0]):
        raise UserError(f"{path} is not a list that begins with a network's state: name a released .pth.")
    held = states[4] if average and len(states) > 4 else None
    if held is not None and not _is_state(held):
        raise UserError(f"{path} holds no moving average in its fifth place: import it by --no-ema.")
    return Released(_bare(states[0]), _bare(held) if held else None, _steps(states))


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(v, Tensor) for v in value.values())


def _bare(tensors: Mapping[str, Tensor]) -> Tensors:
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def _steps(states: list[Any]) -> int:
    """The step of the release of 2020; Adam's own count in that of 2019."""
    if len(states) > 3:
        return _count(states[3])
    adam = states[1].get("state") if len(states) > 1 and isinstance(states[1], Mapping) else None
    moments = adam.values() if isinstance(adam, Mapping) else ()
    return max((_count(m.get("step")) for m in moments if isinstance(m, Mapping)), default=0)


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float | Tensor) else 0


def ladder(released: Released, stated: Tensor | None) -> Tensor:
    """The levels the network was trained on, (L,): the file's own `sigmas`, or else those stated.

    Raises:
        UserError: neither is there, or they differ.
    """
    held = released.network.get("sigmas")
    held = None if held is None or held.dim() != 1 or not len(held) else held
    if held is None and stated is None:
        raise UserError("the file holds no ladder: give --sigma-max, --sigma-min and --num-levels.")
    if held is None or stated is None:
        return held if stated is None else stated  # type: ignore[return-value]  # one is there
    if held.shape != stated.shape or not torch.allclose(held.float(), stated, rtol=LADDER_TOLERANCE):
        raise UserError(
            f"the file's ladder is {_ends(held)}, but {_ends(stated)} is stated: correct `noise` in "
            "params.yaml, or give the file's own by --sigma-max, --sigma-min and --num-levels."
        )
    return stated


def _ends(sigmas: Tensor) -> str:
    return f"{len(sigmas)} levels from {float(sigmas[0]):.6g} to {float(sigmas[-1]):.6g}"


def fitted(network: nn.Module, tensors: Tensors) -> Tensors:
    """Weights as the network's whole state dict: its own `sigmas` stand in where they have none.

    Raises:
        UserError: a name that is missing or unknown, or a shape that is not the network's.
    """
    own = network.state_dict()
    tensors = {"sigmas": own["sigmas"], **tensors}
    wrong = {
        "missing": own.keys() - tensors.keys(),
        "unknown": tensors.keys() - own.keys(),
        "of another shape": {n for n in own.keys() & tensors.keys() if own[n].shape != tensors[n].shape},
    }
    misfits = [f"{len(names)} {what} ({_few(names)})" for what, names in wrong.items() if names]
    if misfits:
        raise UserError(
            f"the weights do not fit this network: {'; '.join(misfits)}: "
            "correct --kind, --image-size or the number of levels."
        )
    return tensors


def _few(names: set[str]) -> str:
    return ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")


def write_checkpoint(released: Released, task: Task, network: str, out: Path) -> Path:
    """Write out/{models/N,curves/N.csv,metrics/train_N.json} as `train` does; returns the model's folder.

    The optimiser's state is left out: an imported network is sampled from, not trained further.

    Raises:
        UserError: weights that do not fit, or hold a NaN or an infinity.
    """
    made = fresh(task)
    _check_finite(released)
    made.network.load_state_dict(fitted(made.network, released.network))
    made.ema.load_state_dict(fitted(made.network, released.average or released.network))
    made.step = released.steps
    folder = out / "models" / network
    checkpoints.save(folder, made)
    log.write_curve(out / "curves" / f"{network}.csv", [])
    files.write_json(out / "metrics" / f"train_{network}.json", {"steps": made.step})
    return folder


def _check_finite(released: Released) -> None:
    parts = {"network": released.network, "moving average": released.average or {}}
    found = {what: name for what, held in parts.items() if (name := checkpoints.first_not_finite(held))}
    for what, name in found.items():
        fix = "fetch it again, or name another .pth" if what == "network" else "import the network itself by --no-ema"
        raise UserError(f"the file's {what} holds a NaN or an infinity in {name}: {fix}.")


def task_of(
    released: Released, params: Params, network: str, kind: str, image_size: int, sigmas: Tensor, sha256: str
) -> Task:
    """The task a stage would have trained, its `code` naming the file, for these weights are not ours.

    Raises:
        UserError: the network has no recipe, or the weights no first convolution.
    """
    if network not in params.recipes:
        raise UserError(f"network {network!r} is not in `recipes` of params.yaml: add it, or correct --network.")
    first = released.network.get("begin_conv.weight")
    if first is None or first.dim() != 4:
        raise UserError("the weights have no `begin_conv.weight`: name a released .pth of NCSN or NCSNv2.")
    width, channels, *_ = first.shape
    settings = make("networks", {"kind": kind, "width": width})
    task = Task.build(
        params.recipes[network].model_copy(update={"network": settings}),
        params.train,
        sigmas=sigmas,
        image_shape=(channels, image_size, image_size),
        data_sha256="unknown",
    )
    code = f"released checkpoint, sha256 {sha256}"
    return dataclasses.replace(task, steps=released.steps, snapshot_every=0, code=code)


def import_released(options: argparse.Namespace, params: Params, out: Path) -> Path:
    """Import what the command line names; returns the model's folder."""
    network = options.network or options.kind
    released = read_released(options.file, options.sha256, average=options.ema is not False)
    if options.ema and released.average is None:
        raise UserError(f"{options.file} has no moving average: leave out --ema.")
    size = options.image_size or params.data.image_size
    sigmas = ladder(released, _stated(options, params, network))
    task = task_of(released, params, network, options.kind, size, sigmas, files.sha256(options.file))
    return write_checkpoint(released, task, network, out)


def _stated(options: argparse.Namespace, params: Params, network: str) -> Tensor | None:
    """The ladder of the options over that of params.yaml, None where neither gives one whole."""
    rule = params.noise.get(network)
    whole = rule.kwargs() if rule else {}
    whole |= {key: value for key in LADDER if (value := getattr(options, key)) is not None}
    return geometric_sigmas(**{key: whole[key] for key in LADDER}) if whole.keys() >= set(LADDER) else None


def _parser() -> argparse.ArgumentParser:
    about, _, rest = str(__doc__).partition(": ")
    parser = argparse.ArgumentParser(
        "python -m pipeline.commands.import_checkpoint",
        description=f"{about}.{rest[rest.index(chr(10)) :]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="the released .pth")
    parser.add_argument("--kind", required=True, choices=["ncsn", "ncsnv2"], help="of 2019 or of 2020")
    parser.add_argument("--network", help="the network of params.yaml that it becomes; by default the kind's name")
    parser.add_argument("--sha256", help="refuse any other file")
    parser.add_argument("--image-size", type=int, help="in pixels; by default data.image_size of params.yaml")
    ends = "by default the file's own, or `noise` of params.yaml"
    parser.add_argument("--sigma-max", type=float, help=f"largest noise level; {ends}")
    parser.add_argument("--sigma-min", type=float, help="smallest noise level")
    parser.add_argument("--num-levels", type=int, help="length of the ladder")
    ema = "sample from the moving average; by default where the file has one"
    parser.add_argument("--ema", action=argparse.BooleanOptionalAction, default=None, help=ema)
    parser.add_argument("--out", type=Path, default=Path("artifacts"), help="by default artifacts")
    return parser


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Import the file of the command line; returns the exit code, 2 for a mistake of the user's."""
    options = _parser().parse_args(arguments)
    try:
        folder = import_released(options, load(root / "params.yaml"), root / options.out)
    except (UserError, OSError) as error:  # a full disk or a folder without rights names itself
        sys.stderr.write(f"error: {error}\n")
        return 2
    go_on = f"dvc commit -f train@{folder.name}`, `dvc repro evaluate@{folder.name}"
    sys.stdout.write(f"{folder} holds the imported network; go on by `{go_on}`\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
