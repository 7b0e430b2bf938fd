"""Files that are whole or absent: written next to their place, then renamed into it."""

import contextlib
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

from pipeline.ncsn.errors import UserError

MOST_BYTES, MOST_VALUES, MOST_DEPTH = 1 << 20, 100_000, 20
"""Of a file of settings; params.yaml has 15 kB, 400 values, and is nested 5 deep."""


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def at_home(path: str) -> str:
    """A path with a leading ~ replaced by the home folder, anything else as it is.

    Raises:
        UserError: there is no such home folder.
    """
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such home folder; ./{path} is a folder of this name") from error


def in_a_copy(path: Path) -> str:
    """For the message that a relative path is missing: what to do where `dvc exp run --temp` works."""
    if path.is_absolute() or ".dvc/tmp/exps" not in Path.cwd().as_posix():
        return ""
    return " in the copy of tracked files that this experiment runs in (give an absolute path)"


def write_text(path: Path, text: str) -> None:
    """Write a text file: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; raises UserError naming the file where it is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run `dvc repro` to make it.") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete it and run `dvc repro`.") from error


def write_yaml(path: Path, value: Any) -> None:
    """Write a value as block YAML 1.2, in the order of its keys."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(value, stream)
    write_text(path, stream.getvalue())


def read_yaml(path: Path) -> Any:
    """Read a YAML 1.2 file; raises UserError naming the file where it is missing or no YAML."""
    try:
        return YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: run `dvc repro` to make it.") from error
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML ({error}): delete it and run `dvc repro`.") from error


def read_settings(path: Path) -> Any:
    """Read a YAML 1.2 file that a person wrote, bounded in size, depth and number of values before it is built.

    Raises:
        UserError: the file is missing, beyond the bounds, or no YAML.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: run from the repository's root or `git checkout` it.")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES} bytes: it is no file of settings; `git checkout` it.")
    try:
        text = content.decode("utf-8")
        _bound(text)
        return YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error


def _bound(text: str) -> None:
    """Raise ValueError for YAML beyond the bounds, a repeated part counted as often as it is repeated."""
    count, sizes, inside = 0, dict[str, int](), list[tuple[str | None, int]]()
    for event in YAML(typ="safe").parse(text):
        count += sizes.get(event.anchor, MOST_VALUES + 1) if isinstance(event, AliasEvent) else 1
        if isinstance(event, CollectionStartEvent):
            inside.append((event.anchor, count))
        elif isinstance(event, CollectionEndEvent):
            anchor, before = inside.pop()
            sizes |= {anchor: count - before} if anchor else {}
        elif isinstance(event, ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        if len(inside) > MOST_DEPTH or count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES} values, or is nested more than {MOST_DEPTH} deep")


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to `path` that takes its place when the block ends well.

    On an exception `path` is left as it was and the partial folder is removed.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
