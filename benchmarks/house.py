"""Measures of the code base: size, docstrings, loose types and names that stand twice.

`python -m benchmarks.house [ROOT]` prints them for the package `pipeline` below ROOT; tests/test_house.py holds
each to its limit.
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

LOOSE = re.compile(r"\b(?:dict|Mapping|MutableMapping)\[str, Any\]")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def modules(root: Path) -> dict[str, ast.Module]:
    """Every module of ROOT/pipeline by its dotted name."""
    found = {}
    for path in sorted((root / "pipeline").rglob("*.py")):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def files(root: Path) -> int:
    """The number of Python files."""
    return len(list((root / "pipeline").rglob("*.py")))


def lines(root: Path) -> int:
    """The number of lines in Python files, blank ones included."""
    return sum(len(path.read_text().splitlines()) for path in (root / "pipeline").rglob("*.py"))


def loose_types(root: Path) -> int:
    """Uses of `dict[str, Any]` and `Mapping[str, Any]`."""
    return sum(len(LOOSE.findall(path.read_text())) for path in (root / "pipeline").rglob("*.py"))


def public(tree: ast.Module) -> Iterator[Definition]:
    """The public functions and classes of a module, and the public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            for child in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(child, Definition) and not child.name.startswith("_"):
                    yield child


def undocumented(root: Path) -> list[str]:
    """Public definitions without a docstring."""
    return [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in modules(root).items()
        for node in public(tree)
        if ast.get_docstring(node) is None
    ]


def documented_share(root: Path) -> float:
    """The share of public definitions that have a docstring."""
    total = sum(1 for tree in modules(root).values() for _ in public(tree))
    return 1 - len(undocumented(root)) / total


def places(root: Path, kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> dict[str, list[str]]:
    """By the name of a public top-level definition of this kind, the modules that define it."""
    found = defaultdict(list)
    for name, tree in modules(root).items():
        for node in tree.body:
            if isinstance(node, kind) and isinstance(node, Definition) and not node.name.startswith("_"):
                found[node.name].append(name)
    return dict(found)


def repeated_types(root: Path) -> dict[str, list[str]]:
    """Public classes whose name stands in more than one module."""
    return {name: where for name, where in places(root, ast.ClassDef).items() if len(where) > 1}


def repeated_functions(root: Path, most: int = 3) -> dict[str, list[str]]:
    """Public functions whose name stands in more than `most` modules."""
    found = places(root, (ast.FunctionDef, ast.AsyncFunctionDef))
    return {name: where for name, where in found.items() if len(where) > most}


def main(root: Path) -> None:
    """Print each measure."""
    table = {
        "files": files(root),
        "lines": lines(root),
        "public definitions with a docstring": f"{documented_share(root):.1%}",
        "dict/Mapping[str, Any]": loose_types(root),
        "type names that stand twice": len(repeated_types(root)),
        "function names in more than 3 modules": len(repeated_functions(root)),
    }
    sys.stdout.writelines(f"{name:40} {value}\n" for name, value in table.items())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
