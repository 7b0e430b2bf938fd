"""Program hash: what code a result follows from, as the modules that it reaches and what each of them says.

`python -m pipeline.program` writes a file below artifacts/program for each stage of dvc.yaml, with a line for
each module that the stage reaches. A stage depends on its file instead of on sources: it runs again when its
program has changed, and not for a docstring, a comment, a line break, or a module that it does not reach.
Stages whose parameters name networks, losses, samplers and the like by kind have a file per instance, such as
train/NETWORK and generate/ROW.
"""

import ast
import functools
import gc
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from pipeline import dvcfile, environment, kernels
from pipeline.dvcfile import PROGRAMS, SOURCES, Entry
from pipeline.files import whole_folder, write_text
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.kinds import EXTENSIONS, KINDS_ROOMS

ROOT = Path(__file__).parents[1]
OBSERVERS = (
    "pipeline/program.py",
    "pipeline/dvcfile.py",
    "pipeline/entry.py",
    "pipeline/environment.py",
    "pipeline/files.py",
    "pipeline/git.py",
    "pipeline/pictures.py",
    "pipeline/progress.py",
    "pipeline/ncsn/errors.py",
    "pipeline/cluster/box.py",
    "pipeline/cluster/job.py",
    "pipeline/params/",
    "pipeline/reporting/",
    "pipeline/tracking/",
)
"""They see results and change none. They count where a root is among them, as for the figures of `report`."""
CARRIERS = ("ray", "safetensors", "ruamel", "mlflow", "dvc", "pydantic", "matplotlib")
"""Packages that carry or show results. The version of any other that a program imports is part of its own."""
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "torch_fidelity": "torch-fidelity"}
ROOMS = {
    "network": "networks",
    "loss": "losses",
    "ema": "averages",
    "optimizer": "optimizers",
    "schedule": "schedules",
    "sampler": "samplers",
    "features": "features",
    "data": "datasets",
}
"""By key of params.yaml, the room of the kinds below that key, see `pipeline.ncsn.kinds`."""
EVERY_KIND = {"frontier": "samplers", "evaluate": "measures", "report": "measures"}
"""Stages that use every kind of a room."""
BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")
"""The fields of a syntax tree that hold statements."""


def version(*roots: str) -> str:
    """Code version of a result: the digest of its program, the packages that compute it, bounds on kernels.

    A package's build (+cpu, +cu126) is left out: where the device changes bits, fingerprints name the device.
    """
    bounded = " portable kernels" if kernels.portable() else ""
    return _version(tuple(sorted(set(roots)))) + bounded


@functools.cache
def _version(roots: tuple[str, ...]) -> str:
    used = packages(*roots)
    return " ".join([digest(*roots), *(environment.version(name).partition("+")[0] for name in used)])


def digest(*roots: str, root: Path = ROOT) -> str:
    """SHA-256, 64 hexadecimal digits, of the program that some modules reach.

    Args:
        roots: dotted names, such as "pipeline.training.fit"; those outside this repository are passed over.
        root: the folder that holds the packages.
    """
    return hashlib.sha256(_text(program(*roots, root=root)).encode()).hexdigest()


def program(*roots: str, root: Path = ROOT) -> Mapping[str, str]:
    """By path from `root`, sorted, the hash of each module that some modules reach, these included."""
    found = {_place(path, root): meaning_sha256(path) for path in reached(roots, root)}
    return dict(sorted(found.items()))


def packages(*roots: str, root: Path = ROOT) -> list[str]:
    """The installed packages that the program of some modules imports, but for `CARRIERS`, sorted."""
    found = {name.split(".")[0] for path in reached(roots, root) for name in imports(path, root)}
    found -= {*sys.stdlib_module_names, *SOURCES, *CARRIERS}
    return sorted(DISTRIBUTIONS.get(name, name) for name in found)


def reached(roots: Iterable[str], root: Path = ROOT) -> set[Path]:
    """The files that some modules and their imports reach, lazy ones too, but for `OBSERVERS`."""
    todo = [path for name in roots for path in files_of(name, root)]
    seen = set(todo)
    passed = tuple(one for one in OBSERVERS if not any(_place(path, root).startswith(one) for path in seen))
    while todo:
        new = {path for name in imports(todo.pop(), root) for path in files_of(name, root)} - seen
        new = {path for path in new if not _place(path, root).startswith(passed)}
        seen |= new
        todo += new
    return seen


@functools.cache
def _place(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


@functools.cache
def files_of(name: str, root: Path = ROOT) -> tuple[Path, ...]:
    """The files that importing a dotted name runs: its packages, and the longest prefix that is a module."""
    pieces = name.split(".")
    if pieces[0] not in SOURCES:
        return ()
    places = [root.joinpath(*pieces[: n + 1]) for n in range(len(pieces))]
    candidates = [(place / "__init__.py", place.with_suffix(".py")) for place in places]
    return tuple(next(filter(Path.is_file, both)) for both in candidates if any(map(Path.is_file, both)))


def module_of(path: Path, root: Path = ROOT) -> str:
    """`pipeline.data.order` for ROOT/pipeline/data/order.py."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, root: Path = ROOT) -> tuple[str, ...]:
    """What a file imports, as absolute dotted names, without imports for types; `from a import b` is a.b."""
    package = module_of(path, root).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    return _imports(path.read_bytes(), tuple(package), str(path))


@functools.cache
def _imports(content: bytes, package: tuple[str, ...], name: str) -> tuple[str, ...]:
    found: list[str] = []
    for node in _statements(_tree(content, name)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += (f"{module}.{alias.name}" for alias in node.names)
    return tuple(found)


@functools.cache
def _tree(content: bytes, name: str) -> ast.Module:
    return ast.parse(content, name)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node but those that `if TYPE_CHECKING` guards, which never run."""
    types = isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    for block in BLOCKS[1:] if types else BLOCKS:
        for below in getattr(node, block, ()):
            yield below
            yield from _statements(below)


def meaning_sha256(path: Path) -> str:
    """SHA-256 of what a Python file says: its syntax tree without docstrings, comments and layout."""
    return _meaning_sha256(path.read_bytes(), str(path))


@functools.cache
def _meaning_sha256(content: bytes, name: str) -> str:
    return hashlib.sha256(meaning(_tree(content, name)).encode()).hexdigest()


def meaning(node: Any) -> str:
    """A syntax tree as text, the same from any version of Python that has its nodes.

    Empty fields are left out, since a version may not know them; so is `ctx`, which follows from the place.
    """
    if isinstance(node, ast.AST):
        found = [(name, getattr(node, name, None)) for name in node._fields if name != "ctx"]
        said = [f"{name}={meaning(value)}" for name, value in found if value is not None and value != []]
        return f"{type(node).__name__}({','.join(said)})"
    if isinstance(node, list):
        return f"[{','.join([meaning(item) for item in node if not _is_docstring(item)])}]"
    return repr(node)


def _is_docstring(node: Any) -> bool:
    """A string on its own, be it a module's, a function's or the one below an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _text(found: Mapping[str, str]) -> str:
    return "".join(f"{path} {sha256}\n" for path, sha256 in found.items())


def modules(value: Any, room: str = "") -> Iterator[str]:
    """The modules that settings name, as dotted names: of each kind, and of the class of each object.

    Args:
        value: a section of params.yaml, or what was made of one; {"sampler": {"kind": "heun"}} names
            pipeline.ncsn.samplers.heun, and extensions.samplers.heun.
        room: of the kinds in it, where no key of `ROOMS` names it.
    """
    if isinstance(value, Mapping):
        yield from _of_kind(room, value.get("kind", value.get("name")))
        for kind in value.get("kinds", ()):
            yield from _of_kind("samplers", kind)
        for key, below in value.items():
            yield from modules(below, ROOMS.get(key, room))
    elif isinstance(value, list | tuple):
        for below in value:
            yield from modules(below, room)
    elif hasattr(type(value), "model_fields"):  # a section: what it names, and not the schema that checks it
        yield from modules(dict(value), room)
    else:
        yield from _of_object(value, room)


def _of_kind(room: str, kind: Any) -> Iterator[str]:
    """Both places where a kind may be; where it is not, there is no file, and nothing is reached."""
    if room and isinstance(kind, str):
        yield from (f"{package}.{kind}" for package in _packages(room))


def is_kind(path: str) -> bool:
    """Whether a file of a program is a module of a room, kind or helper, by its path from the root."""
    rooms = [package.replace(".", "/") for package in KINDS_ROOMS.values()]
    inside = any(path.startswith(f"{room}/") for room in (*rooms, EXTENSIONS))
    return inside and not path.endswith("/__init__.py")


def _packages(room: str) -> tuple[str, str]:
    return KINDS_ROOMS[room], f"{EXTENSIONS}.{room}"


def _of_object(value: Any, room: str) -> Iterator[str]:
    """The modules of a function, of a torch network's layers, and of a dataclass and its fields."""
    yield getattr(value, "__module__", None) or type(value).__module__
    if is_dataclass(value) and not isinstance(value, type):
        yield from modules({one.name: getattr(value, one.name) for one in fields(value)}, room)
    elif hasattr(value, "named_modules"):
        yield from (type(layer).__module__ for _, layer in value.named_modules())


def files(root: Path = ROOT) -> dict[str, str]:
    """The text of each file below artifacts/program that a stage of root/dvc.yaml depends on, by path."""
    roots, found = _Roots(root, dvcfile.params(root)), dict[str, set[str]]()
    for entry in dvcfile.entries(root).values():
        for path in filter(dvcfile.is_program, entry.deps):
            found.setdefault(path, set()).update(roots.of(path, entry))
    return {path: _text(program(*sorted(names), root=root)) for path, names in sorted(found.items())}


@dataclass(frozen=True)
class _Roots:
    """Modules behind a program file: its stage's, and those of the kinds that its parameters name."""

    root: Path
    params: Mapping[str, Any]

    def of(self, path: str, entry: Entry) -> Iterator[str]:
        stage = path.removeprefix(PROGRAMS).split("/")[0]
        yield f"stages.{stage}"
        if stage == "report":
            yield "pipeline.reporting.report"
        if stage in EVERY_KIND:
            yield from self._every_kind(EVERY_KIND[stage])
        for key in entry.params:
            yield from modules(self._nested(key))
        for dep in entry.deps:
            yield from self._behind(dep)

    def _every_kind(self, room: str) -> Iterator[str]:
        for package in _packages(room):
            places = self.root.joinpath(*package.split(".")).glob("*.py")
            yield from (f"{package}.{path.stem}" for path in places if not path.stem.startswith("_"))

    def _behind(self, dep: str) -> Iterator[str]:
        """The kinds behind a file in artifacts/ that an earlier stage made of its parameters."""
        _, made, name = (*Path(dep).parts, "", "")[:3]
        name = Path(name).stem
        if made == "models":
            yield from modules({"network": self._nested(f"recipes.{self._trained(name)}.network")})
        elif made == "features":
            yield from modules(self._nested("features"))
        elif made == "sampler":
            rows = self.params.get("sampler", {})
            chosen = [rows[name]] if name in rows else list(rows.values())
            yield from modules({"sampler": chosen})
            if any("from" in row for row in chosen):
                yield from modules(self._nested("tune_sampler.kinds"))

    def _nested(self, key: str) -> dict[str, object]:
        """The value at a dotted key below the keys that enclose it; nothing where there is none."""
        try:
            found = dvcfile.value(self.params, key)
        except (KeyError, TypeError):
            return {}
        for piece in reversed(key.split(".")):
            found = {piece: found}
        return dict(found)

    def _trained(self, network: str) -> str:
        """The network of params.yaml that NETWORK or NETWORK-SEED is."""
        return network if network in self.params.get("recipes", {}) else network.rpartition("-")[0]


def write_programs(root: Path) -> None:
    """Write `files` into artifacts/program of a repository."""
    with whole_folder(root / PROGRAMS) as folder:
        for path, text in files(root).items():
            write_text(folder / path.removeprefix(PROGRAMS), text)


if __name__ == "__main__":
    gc.disable()  # syntax trees are many objects and no garbage: half the time went into looking
    try:
        write_programs(Path.cwd())
    except (UserError, SyntaxError) as error:
        sys.exit(f"error: {error}")
