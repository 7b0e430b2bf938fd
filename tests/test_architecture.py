"""The architecture as a test: each rule holds here, and each is shown to catch a planted fault."""

import ast
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]

BASE = {"errors", "files", "mapped", "commit", "machine", "chosen"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "commit": set(),
    "files": {"errors"},
    "chosen": {"errors", "files"},
    "mapped": set(),
    "machine": set(),
    "ncsn": BASE,
    "samplers": BASE | {"ncsn"},
    "data": BASE,
    "metrics": BASE | {"ncsn", "samplers"},
    "training": BASE | {"ncsn", "data"},
    "toy": BASE | {"ncsn", "samplers", "data"},
    "cache": BASE,
    "dvcfile": BASE,
    "params": BASE,
    "preset": BASE | {"params"},
    "tracking": BASE | {"training", "dvcfile"},
    "reporting": BASE | {"samplers", "toy", "dvcfile"},
    "show": BASE | {"ncsn", "data", "reporting"},
    "publish": BASE | {"ncsn", "samplers", "data", "training", "reporting"},
    "verify": BASE | {"reporting", "tracking", "dvcfile"},
    "import_checkpoint": BASE | {"ncsn", "training", "params"},
    "distributed": BASE | {"ncsn", "samplers", "data", "metrics", "training", "dvcfile"},
    "door": BASE | {"params", "distributed", "tracking"},
    "stages": {"*"},
}
CORE = ("ncsn", "samplers")
HEAVY = ("ray", "mlflow", "dvc", "pydantic", "scipy", "sklearn", "pandas", "matplotlib", "optuna")
CONFINED = {"ray": "pipeline/distributed/", "mlflow": "pipeline/tracking/store/"}
# They see results and change none: a stage that uses one need not depend on it.
OBSERVERS = (
    "errors.py",
    "commit.py",
    "machine.py",
    "files.py",
    "mapped.py",
    "dvcfile.py",
    "params/",
    "door.py",
    "tracking/",
    "distributed/job.py",
    "reporting/",
)
STAGE_LINES = 70


def sources(root: Path) -> list[Path]:
    return [*sorted((root / "pipeline").rglob("*.py")), *sorted((root / "stages").glob("*.py"))]


def imports(path: Path) -> tuple[str, ...]:
    """Every module a file imports, lazily or not, with the names of `from` imports spelled out."""
    return imports_of(path.read_text())


@cache
def imports_of(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import: {ast.unparse(node)}"
            found += (f"{node.module}.{alias.name}" for alias in node.names)
    return tuple(found)


def part(module: str) -> str:
    """`pipeline.data.order` -> `data`; `stages.train` -> `stages`."""
    pieces = module.split(".")
    return "stages" if pieces[0] == "stages" else (pieces[1] if len(pieces) > 1 else "")


def module_of(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def wrong_arrows(root: Path) -> list[str]:
    found = []
    for path in sources(root):
        here = part(module_of(path, root))
        allowed = MAY_IMPORT.get(here, set()) if here else set()
        for module in imports(path):
            target = part(module)
            ours = module.split(".")[0] in ("pipeline", "stages") and target
            if ours and target != here and target not in allowed and "*" not in allowed:
                found.append(f"{path.relative_to(root)} imports {module}")
            if target == "stages" and ours:
                found.append(f"{path.relative_to(root)} imports {module}: nobody imports stages")
    return found


def escaped(root: Path) -> list[str]:
    """imports of ray and of mlflow outside their folders."""
    return [
        f"{path.relative_to(root)} imports {module}"
        for path in sources(root)
        for module in imports(path)
        for package, home in CONFINED.items()
        if module.split(".")[0] == package and not str(path.relative_to(root)).startswith(home)
    ]


def core_import_error(root: Path) -> str:
    """What importing every module of the core prints on failure, with the heavy packages blocked."""
    modules = [module_of(p, root) for name in CORE for p in sorted((root / "pipeline" / name).rglob("*.py"))]
    code = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {HEAVY!r}: raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
import importlib
for m in {modules!r}: importlib.import_module(m)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def pipeline_yaml(root: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(root / "dvc.yaml")["stages"])


def stage_mismatch(root: Path) -> list[str]:
    files = {p.stem for p in (root / "stages").glob("*.py")} - {"__init__"}
    names = set(of_one_seed(root))
    found = [f"no stages/{n}.py" for n in names - files] + [
        f"stage {n} not in dvc.yaml" for n in files - names
    ]
    for path in (root / "stages").glob("*.py"):
        if len(path.read_text().splitlines()) > STAGE_LINES:
            found.append(f"{path.name} is longer than {STAGE_LINES} lines")
    return found


def of_one_seed(root: Path) -> dict[str, Any]:
    """The stages without those named X_more, X for further training seeds."""
    return {name: stage for name, stage in pipeline_yaml(root).items() if not name.endswith("_more")}


def seed_mismatch(root: Path) -> list[str]:
    """A stage of further seeds is its first seed's but for a matrix that has the seed too."""
    stages = pipeline_yaml(root)
    wanted = {
        f"{name}_more": stage | {"matrix": stage["matrix"] | {"seed": "${more_seeds}"}}
        for name, stage in of_one_seed(root).items()
        if "matrix" in stage
    }
    found = {name: stage for name, stage in stages.items() if name.endswith("_more")}
    return [name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)]


def file_of(module: str, root: Path) -> Path | None:
    """The file that a dotted name lives in: the longest prefix that is a module."""
    pieces = module.split(".")
    while pieces:
        base = root.joinpath(*pieces)
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.exists():
                return path
        pieces.pop()
    return None


def reached(path: Path, root: Path) -> set[Path]:
    """All project files that a file's imports reach, packages' __init__ files among them."""
    todo, seen = [path], {path}
    while todo:
        for module in imports(todo.pop()):
            if module.split(".")[0] not in ("pipeline", "stages"):
                continue
            target = file_of(module, root)
            if target and target not in seen:
                seen.add(target)
                if not observer(target, root):
                    todo.append(target)
    return seen


def observer(path: Path, root: Path) -> bool:
    return str(path.relative_to(root)).startswith(tuple(f"pipeline/{name}" for name in OBSERVERS))


def trivial(path: Path) -> bool:
    """An `__init__` that holds a docstring alone."""
    return path.name == "__init__.py" and len(ast.parse(path.read_text()).body) <= 1


def dependency_mismatch(root: Path) -> list[str]:
    found = []
    for name, stage in of_one_seed(root).items():
        code = [root / d for d in stage["deps"] if d.startswith(("pipeline", "stages"))]
        files = {p for p in reached(root / f"stages/{name}.py", root) if not trivial(p)}
        for path in sorted(files):
            if not observer(path, root) and not any(path.is_relative_to(dep) for dep in code):
                found.append(f"{name} reaches {path.relative_to(root)} but does not depend on it")
        for dep in code:
            if not any(path.is_relative_to(dep) for path in files):
                found.append(f"{name} depends on {dep.relative_to(root)} but does not reach it")
    return found


def params_mismatch(root: Path) -> list[str]:
    """Sections read as `params.X` in a stage's file against the sections its dvc.yaml entry declares."""
    unwatched = {"compute", "tracking", "variants", "more_seeds", "networks", "preset"}
    found = []
    for name, stage in of_one_seed(root).items():
        tree = ast.parse((root / f"stages/{name}.py").read_text())
        read = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "params"
        } - unwatched
        declared = {p.split(".")[0] for p in stage.get("params", [])} - {"preset", "variants", "more_seeds"}
        if read != declared:
            found.append(f"{name} reads {sorted(read)} and declares {sorted(declared)}")
    return found


RULES = [
    wrong_arrows,
    escaped,
    core_import_error,
    stage_mismatch,
    seed_mismatch,
    dependency_mismatch,
    params_mismatch,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_holds(rule: Any) -> None:
    assert not rule(ROOT)


FAULTS = [
    (wrong_arrows, "pipeline/ncsn/noise.py", "from pipeline.training import loop\n"),
    (wrong_arrows, "pipeline/samplers/nfe.py", "def f():\n    import pipeline.params\n"),
    (wrong_arrows, "pipeline/training/loop.py", "from pipeline import tracking\n"),
    (wrong_arrows, "pipeline/tracking/store/run.py", "import stages.train\n"),
    (escaped, "pipeline/training/loop.py", "def f():\n    import ray\n"),
    (escaped, "stages/train.py", "from mlflow import MlflowClient\n"),
    (core_import_error, "pipeline/ncsn/noise.py", "import scipy.stats\n"),
    (stage_mismatch, "stages/extra.py", "x = 1\n"),
    (stage_mismatch, "stages/train.py", "#\n" * STAGE_LINES),
    (dependency_mismatch, "stages/prepare.py", "from pipeline.samplers import langevin\n"),
    (dependency_mismatch, "pipeline/training/loop.py", "from pipeline import toy\n"),
    (params_mismatch, "stages/prepare.py", "def f(params):\n    return params.train\n"),
]


@pytest.mark.parametrize(("rule", "file", "fault"), FAULTS, ids=lambda v: getattr(v, "__name__", None))
def test_rule_catches_a_planted_fault(rule: Any, file: str, fault: str, tmp_path: Path) -> None:
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    assert not rule(tmp_path)
    with (tmp_path / file).open("a") as target:
        target.write(fault)
    assert rule(tmp_path)


def test_a_superfluous_dependency_is_caught(tmp_path: Path) -> None:
    for name in ("pipeline", "stages"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "dvc.yaml").read_text()
    (tmp_path / "dvc.yaml").write_text(
        text.replace("stages/prepare.py, ", "stages/prepare.py, pipeline/samplers, ")
    )
    assert dependency_mismatch(tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("    <<: *generate\n", "    <<: *train\n"), ("seed: ${more_seeds}", "seed: ${variants}")],
)
def test_a_stage_of_further_seeds_that_differs_is_caught(tmp_path: Path, right: str, wrong: str) -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert text.count(right) == 1
    (tmp_path / "dvc.yaml").write_text(text.replace(right, wrong))
    assert seed_mismatch(tmp_path)
