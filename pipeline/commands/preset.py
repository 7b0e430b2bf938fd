"""Switch params.yaml to a preset: `python -m pipeline.commands.preset NAME [--extra-seeds 1 2]`.

Without NAME, `--extra-seeds` adds further training seeds to params.yaml as it is.

conf/digits.yaml is the whole shipped params.yaml; every other preset holds only what differs from it. The
result is one plain file that is edited and compared as any other. DVC's own composition (Hydra) rewrites
params.yaml at every `dvc exp run`, and loses edits and comments on the way.
"""

import argparse
import copy
import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from pipeline import files
from pipeline.ncsn.errors import UserError
from pipeline.params import Params, parse
from pipeline.params.schema import extra_rows

BASE = "digits"
SEEDS_HELP = "train, sample and evaluate everything again with these training seeds: writes extra_seeds and extra_rows"
WHOLE = ("rows", "extra_rows", "starts")
"""Mappings that are lists of names: a preset that has one has all of it."""


class _Representer(RoundTripRepresenter):
    """Writes None as `null`, as a person does."""

    def represent_none(self, data: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Representer.add_representer(type(None), _Representer.represent_none)


def known(conf: Path) -> list[str]:
    """Names of the presets in a folder."""
    return sorted(path.stem for path in conf.glob("*.yaml"))


def compose(conf: Path, name: str, extra_seeds: Sequence[int] = ()) -> str:
    """The text of params.yaml under a preset, validated.

    Args:
        extra_seeds: further training seeds, for `extra_seeds` and `extra_rows`; none: those of the preset.

    Raises:
        UserError: the preset is unknown, is no YAML or does not give valid parameters.
    """
    if name not in known(conf):
        raise UserError(f"preset {name!r} is unknown; known: {', '.join(known(conf))}.")
    text = (conf / f"{BASE}.yaml").read_text(encoding="utf-8")
    if name != BASE or extra_seeds:
        files.read_settings(conf / f"{name}.yaml")  # bounded, which the reader below is not
        overlay = "" if name == BASE else (conf / f"{name}.yaml").read_text(encoding="utf-8")
        return laid(conf, name, overlay, extra_seeds)[0]
    parse(YAML(typ="safe").load(text), str(conf / f"{name}.yaml"))
    return text


def laid(conf: Path, name: str, overlay: str, extra_seeds: Sequence[int] = ()) -> tuple[str, Params]:
    """The text of params.yaml under a preset, whose own text need not be a file yet, and what it says.

    Raises:
        UserError: the preset is no YAML or does not give valid parameters.
    """
    text = _overlaid((conf / f"{BASE}.yaml").read_text(encoding="utf-8"), overlay, name, extra_seeds)
    return text, parse(YAML(typ="safe").load(text), str(conf / f"{name}.yaml"))


def _overlaid(base_text: str, overlay_text: str, name: str, extra_seeds: Sequence[int]) -> str:
    yaml = _round_trip()
    try:
        base, overlay = yaml.load(base_text), yaml.load(overlay_text) or CommentedMap()
    except YAMLError as error:
        raise UserError(f"preset {name!r} is not valid YAML: {error}") from error
    lay(overlay, base)
    base["preset"] = name
    if extra_seeds:
        _add_seeds(base, extra_seeds)
    return _after_head(_dumped(yaml, base), _head(overlay_text))


def _round_trip() -> YAML:
    """YAML that keeps comments; it makes plain values alone, no objects."""
    yaml = YAML()
    yaml.Representer, yaml.width = _Representer, 4096
    return yaml


def _dumped(yaml: YAML, content: CommentedMap) -> str:
    target = io.StringIO()
    yaml.dump(content, target)
    return target.getvalue()


def with_seeds(params: Path, extra_seeds: Sequence[int]) -> str:
    """The text of params.yaml with other further training seeds, validated; all else is left as it is.

    Raises:
        UserError: params.yaml is missing or not valid, or the seeds are not.
    """
    yaml = _round_trip()
    try:
        files.read_settings(params)  # bounded, which the reader below is not
        base = yaml.load(params)
        _add_seeds(base, extra_seeds)
    except (OSError, UserError, YAMLError, TypeError, KeyError) as error:
        raise UserError(f"{params} cannot be read ({error}): name a preset to write it from.") from error
    text = _dumped(yaml, base)
    parse(YAML(typ="safe").load(text), str(params))
    return text


def _add_seeds(base: CommentedMap, extra_seeds: Sequence[int]) -> None:
    """Set extra_seeds and extra_rows, a line for each row."""
    base["extra_seeds"] = seeds = CommentedSeq(extra_seeds)
    seeds.fa.set_flow_style()
    base["extra_rows"] = rows = CommentedMap()
    for name, row in extra_rows(base["rows"], list(extra_seeds)).items():
        rows[name] = line = CommentedMap(row)
        line.fa.set_flow_style()


def lay(overlay: CommentedMap, base: CommentedMap) -> None:
    """Lay one mapping over another, in place; one of `WHOLE` or of another `kind` replaces the one below."""
    for key, value in overlay.items():
        below = base.get(key)
        mappings = isinstance(value, dict) and isinstance(below, dict) and key not in WHOLE
        if mappings and all(value.get(name, below.get(name)) == below.get(name) for name in ("from", "kind")):
            lay(value, below)
        else:
            base[key] = copy.deepcopy(value)


def _head(text: str) -> list[str]:
    """The comment lines a file begins with."""
    lines = text.splitlines(keepends=True)
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def _after_head(text: str, extra: list[str]) -> str:
    head = _head(text)
    return "".join([*head, *(["#\n"] if extra else []), *extra]) + text[sum(map(len, head)) :]


def lost_edits(params: Path, conf: Path) -> list[str]:
    """What params.yaml holds otherwise than its preset, as `key: value`; empty where it cannot be read."""
    try:
        now = files.read_settings(params)
        shipped = dict(_flat(YAML(typ="safe").load(compose(conf, now["preset"], now.get("extra_seeds", ())))))
    except (OSError, YAMLError, UserError, TypeError, KeyError):
        return []
    return [f"{key}: {value}" for key, value in _flat(now) if shipped.get(key, ...) != value]


def _flat(mapping: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in mapping.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def main(arguments: list[str] | None = None, root: Path = Path()) -> int:
    """Write params.yaml for the named preset; returns the exit code, 2 for a mistake of the user's."""
    conf, params = root / "conf", root / "params.yaml"
    parser = argparse.ArgumentParser(
        "python -m pipeline.commands.preset", description="Switch params.yaml to a preset."
    )
    parser.add_argument("name", nargs="?", help=f"one of: {', '.join(known(conf))}")
    parser.add_argument("--extra-seeds", type=int, nargs="*", metavar="SEED", help=SEEDS_HELP)
    asked = parser.parse_args(arguments)
    name = asked.name
    seeds = asked.extra_seeds
    if name is None and seeds is None:
        parser.error("name a preset, or give --extra-seeds")
    try:
        if name is None:
            files.write_text(params, with_seeds(params, seeds))
            sys.stdout.write(f"{params} has the extra seeds {seeds}; `dvc repro` runs what they add\n")
            return 0
        text, edits = compose(conf, name, seeds or ()), lost_edits(params, conf)
        files.write_text(params, text)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    if edits:
        sys.stderr.write(f"these edits of {params} are lost: {'; '.join(edits)}\n")
    sys.stdout.write(f"{params} holds the preset {name}; `dvc params diff` shows what changed, `dvc repro` runs it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
