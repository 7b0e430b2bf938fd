"""Program hash: what code a result follows from, as the modules that it reaches and what each of them says.

`python -m pipeline.program` writes artifacts/program/STAGE, a line for each module that a stage reaches. dvc.yaml
has every stage depend on its file instead of on sources, so that it runs again when its program has changed, and
not for a docstring, a comment, a line break, or a module that it does not reach.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.files import whole_folder, write_text

ROOT = Path(__file__).parents[1]
OBSERVERS = (
    "pipeline/program.py",
    "pipeline/dvcfile.py",
    "pipeline/entry.py",
    "pipeline/environment.py",
    "pipeline/files.py",
    "pipeline/git.py",
    "pipeline/memmap.py",
    "pipeline/ncsn/errors.py",
    "pipeline/cluster/job.py",
    "pipeline/params/",
    "pipeline/reporting/",
    "pipeline/tracking/",
)
"""They see results and change none, but where a root itself is among them, as the tables and figures of `report` are."""
PACKAGES = ("pipeline", "stages")


def digest(*roots: str, root: Path = ROOT) -> str:
    """SHA-256, 64 hexadecimal digits, of the program that some modules reach.

    Args:
        roots: dotted names, such as "pipeline.training.fit"; those outside this repository are passed over.
        root: the folder that holds the packages.
    """
    return hashlib.sha256(_text(program(*roots, root=root)).encode()).hexdigest()


@functools.cache
def program(*roots: str, root: Path = ROOT) -> Mapping[str, str]:
    """By path from `root`, sorted, the hash of each module that some modules reach, these included."""
    found = {path.relative_to(root).as_posix(): meaning_sha256(path) for path in reached(roots, root)}
    return dict(sorted(found.items()))


def reached(roots: Iterable[str], root: Path = ROOT) -> set[Path]:
    """The files that some modules and their imports reach, lazy ones too, but for `OBSERVERS`."""
    todo = [path for name in roots for path in files_of(name, root)]
    seen = set(todo)
    passed = [one for one in OBSERVERS if not any(_lies(path, one, root) for path in seen)]
    while todo:
        new = {path for name in imports(todo.pop(), root) for path in files_of(name, root)} - seen
        new = {path for path in new if not any(_lies(path, one, root) for one in passed)}
        seen |= new
        todo += new
    return seen


def _lies(path: Path, place: str, root: Path) -> bool:
    return path.relative_to(root).as_posix().startswith(place)


def files_of(name: str, root: Path = ROOT) -> list[Path]:
    """The files that importing a dotted name runs: the packages above, and the longest prefix that is a module."""
    pieces = name.split(".")
    if pieces[0] not in PACKAGES:
        return []
    places = [root.joinpath(*pieces[: n + 1]) for n in range(len(pieces))]
    candidates = [path for place in places for path in (place / "__init__.py", place.with_suffix(".py"))]
    return [path for path in candidates if path.is_file()]


def module_of(path: Path, root: Path = ROOT) -> str:
    """`pipeline.data.order` for ROOT/pipeline/data/order.py."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path, root: Path = ROOT) -> tuple[str, ...]:
    """What a file imports, as absolute dotted names; `from a import b` is a.b. Types' own imports are left out."""
    package = module_of(path, root).split(".")
    return _imports(path, tuple(package if path.name == "__init__.py" else package[:-1]))


@functools.cache
def _imports(path: Path, package: tuple[str, ...]) -> tuple[str, ...]:
    found: list[str] = []
    for node in _walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            found += (f"{module}.{alias.name}" for alias in node.names)
    return tuple(found)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`, which never run."""
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        yield from _walk(child)


@functools.cache
def meaning_sha256(path: Path) -> str:
    """SHA-256 of what a Python file says: its syntax tree without docstrings, comments and layout."""
    return hashlib.sha256(meaning(ast.parse(path.read_bytes())).encode()).hexdigest()


def meaning(node: Any) -> str:
    """A syntax tree as text, the same from any version of Python that has its nodes."""
    if isinstance(node, list):
        return f"[{','.join(meaning(item) for item in node if not _is_docstring(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    # Fields that a version does not know yet are empty there.
    fields = [(name, value) for name, value in ast.iter_fields(node) if value is not None and value != []]
    return f"{type(node).__name__}({','.join(f'{name}={meaning(value)}' for name, value in fields)})"


def _is_docstring(node: Any) -> bool:
    """A string that stands alone, be it a module's, a function's or the one below an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _text(found: Mapping[str, str]) -> str:
    return "".join(f"{path} {sha256}\n" for path, sha256 in found.items())


def write(out: Path, root: Path = ROOT) -> None:
    """Write a file for each stage of `root`/stages into the folder `out`."""
    with whole_folder(out) as folder:
        for path in sorted((root / "stages").glob("*.py")):
            name = module_of(path, root)
            roots = (name, "pipeline.reporting.report") if path.stem == "report" else (name,)
            if path.stem != "__init__":
                write_text(folder / path.stem, _text(program(*roots, root=root)))


if __name__ == "__main__":
    write(Path("artifacts/program"), Path.cwd())
