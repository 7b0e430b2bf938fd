"""Reference pages from the code: params.yaml's keys, the stages, the commands, the API.

`PYTHONPATH=. python docs/_site/reference.py params` (or stages, commands, make) prints one of them.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import params_reference
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
SUBPACKAGES = ("ncsn/networks", "ncsn/losses", "ncsn/samplers", "ncsn/averages")
SKIPPED = ("commands",)
"""Commands have a page of their own."""
LINES = {"depends on": ("deps",), "reads from params.yaml": ("params",), "writes": ("outs", "metrics")}
"""What is said of a stage, and the keys of dvc.yaml that say it."""


def packages() -> dict[str, str]:
    """API pages by package: its modules, each a directive of mkdocstrings."""
    folders = [path.parent for path in sorted((ROOT / "pipeline").glob("*/__init__.py"))]
    nested = [ROOT / "pipeline" / name for name in SUBPACKAGES if (ROOT / "pipeline" / name).is_dir()]
    names = {_dotted(folder): folder for folder in sorted([*folders, *nested])}
    pages = {name: _api(name, folder) for name, folder in names.items() if name not in SKIPPED}
    return {"pipeline": _api("pipeline", ROOT / "pipeline"), **pages}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").relative_to(ROOT / "pipeline").parts)


def _api(name: str, folder: Path) -> str:
    summary = _docstring(folder / "__init__.py")
    modules = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]
    directives = "\n\n".join(f"::: pipeline.{_dotted(path)}" for path in modules)
    return f"# {name}\n\n{summary}\n\n{directives}\n"


def _docstring(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def commands() -> str:
    """A section for each command of pipeline.commands: its docstring."""
    modules = [path for path in sorted((ROOT / "pipeline/commands").glob("*.py")) if path.stem != "__init__"]
    return "\n\n".join(f"### `python -m pipeline.commands.{m.stem}`\n\n{_docstring(m)}" for m in modules)


def make() -> str:
    """The targets of the Makefile, as `make help` lists them."""
    found = re.findall(r"^([a-z]+):.*## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    rows = [f"| `make {name}` | {text} |" for name, text in found]
    return "\n".join(["| target | what it does |", "|---|---|", *rows])


def stages() -> str:
    """The stages of dvc.yaml: what each runs, depends on, reads from params.yaml and writes."""
    plan = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    return "\n\n".join("\n".join(_stage(name, stage)) for name, stage in plan.items())


def _stage(name: str, stage: dict) -> Iterator[str]:
    over = stage.get("foreach", stage.get("matrix"))
    stage = stage.get("do", stage)
    yield f"### `{name}`\n"
    yield f"- **runs** `{stage['cmd']}`"
    if over is not None:
        yield f"- **for each of** `{over}`"
    for title, keys in LINES.items():
        entries = [_entry(entry) for key in keys for entry in stage.get(key, [])]
        if entries:
            yield f"- **{title}** {', '.join(entries)}"


def _entry(entry: str | dict) -> str:
    return f"`{entry if isinstance(entry, str) else next(iter(entry))}`"


def params() -> str:
    """The keys of params.yaml, a table for each section."""
    return params_reference.page()


if __name__ == "__main__":
    sys.stdout.write(globals()[sys.argv[1]]() + "\n")
