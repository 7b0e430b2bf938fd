"""Write a preset for your own images, and say why and how long it takes: `python -m pipeline.commands.start PATH`.

PATH is a folder of images, or an .npz or .npy file. docs/guides/own_data.md says what is chosen and how.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from pipeline import files
from pipeline.commands import preset
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.params import Params
from pipeline.proposal import choose, cost
from pipeline.proposal.look import Facts, look
from pipeline.proposal.text import WRITTEN, plain_yaml, preset_text

EFFORTS = [2 ** (power / 2) for power in range(14, -13, -1)]
"""Tried from the dearest to the cheapest: 128 to 1/64."""
Made = tuple[str, list[choose.Choice], dict[str, float]]
"""A preset as text, its keys, and its seconds by stage."""


def propose(facts: Facts, conf: Path, name: str, minutes: float) -> Made:
    """The preset of the most steps and samples that are estimated to take at most `minutes`.

    Raises:
        UserError: the least takes longer, or images that no network takes.
    """
    params, ladder = _params(facts, conf, name, EFFORTS[-1]), _ladder(facts)
    speed = cost.measure(params, facts, ladder)
    for effort in EFFORTS:
        spent = cost.estimate(_params(facts, conf, name, effort), facts, ladder, speed)
        if sum(spent.values()) <= 60 * minutes:
            choices = choose.choices_for(facts, effort)
            return preset_text(name, choices), choices, spent
    least = int(sum(spent.values()) / 60) + 1
    raise UserError(
        f"--minutes {minutes:g} is too short: the least that is planned takes about {least} minutes here. "
        "Give more, or a smaller --image-size."
    )


def _params(facts: Facts, conf: Path, name: str, effort: float) -> Params:
    return preset.laid(conf, name, preset_text(name, choose.choices_for(facts, effort)))[1]


def _ladder(facts: Facts) -> Ladder:
    return Ladder(facts.sigma_max, choose.SIGMA_MIN, choose.num_levels(facts))


def _said(made: Made, path: Path, name: str) -> Iterator[str]:
    _, choices, spent = made
    for choice in choices:
        yield f"{choice.key}: {plain_yaml(choice.value)}\n    {choice.reason}"
    yield f"\nEstimated here, from a few timed steps of each network: about {_minutes(sum(spent.values()))} in all."
    yield "  " + ", ".join(f"{stage} {_minutes(seconds)}" for stage, seconds in spent.items())
    yield f"\nWritten to {path}. Next:"
    yield f"  python -m pipeline.commands.preset {name}    # params.yaml becomes this preset"
    yield "  dvc repro features                      # prepares the images, builds what they are judged by"
    yield "  python -m pipeline.commands.show        # counts and a picture of the images"
    yield "  dvc repro                               # everything else"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def _target(conf: Path, name: str, force: bool) -> Path:
    """Where the preset goes; raises UserError where something else is there."""
    path = conf / f"{name}.yaml"
    if path.exists() and WRITTEN not in path.read_text(encoding="utf-8").partition("\n")[0]:
        raise UserError(f"{path} is a preset that this command has not written: add `--name NAME`, another name.")
    if path.exists() and not force:
        raise UserError(f"{path} exists: add `--force` to overwrite it, or `--name NAME`, another name.")
    return path


def _colour(text: str) -> tuple[int, ...]:
    found = tuple(map(int, text.split(",")))
    if len(found) != 3 or not all(0 <= part <= 255 for part in found):
        raise ValueError
    return found


def _above(bound: float, of: Callable[[str], float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        if not bound < (found := of(text)) < 1e6:
            raise ValueError
        return found

    return number


def _parser() -> argparse.ArgumentParser:
    about = str(__doc__).partition(": ")[0]
    parser = argparse.ArgumentParser("python -m pipeline.commands.start", description=about)
    parser.add_argument("path", metavar="PATH", type=Path, help="a folder of images, or an .npz or .npy file")
    parser.add_argument("--name", help="of the preset, conf/NAME.yaml; default: the name of PATH")
    parser.add_argument(
        "--image-size", metavar="N", type=_above(0, int), help="cut images to squares, resize them to N"
    )
    colour = "the colour below an alpha channel, 0 to 255 each; default: white"
    parser.add_argument("--background", metavar="R,G,B", type=_colour, help=colour)
    limit = "how long the whole pipeline may take, by the estimate; sets steps and samples; default: %(default)s"
    parser.add_argument("--minutes", metavar="M", type=_above(0, float), default=60.0, help=limit)
    parser.add_argument("--force", action="store_true", help="overwrite a preset that this command wrote")
    return parser


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Write the preset of the images on the command line; returns the exit code, 2 for a mistake of the user's."""
    given = _parser().parse_args(arguments)
    name = given.name or re.sub("[^A-Za-z0-9_]+", "_", given.path.resolve().stem)[:64]
    try:
        path = _target(root / "conf", name, given.force)
        facts = look(given.path, given.image_size, given.background, "cuda" if torch.cuda.is_available() else "cpu")
        made = propose(facts, root / "conf", name, given.minutes)
        files.write_text(path, made[0])
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.writelines(f"{line}\n" for line in _said(made, path, name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
