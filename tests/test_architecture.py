"""The architecture as a test: each rule holds here, and each is shown to catch a planted fault."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.program import imports, module_of

ROOT = Path(__file__).resolve().parents[1]

BASE = {"ncsn", "files", "memmap", "git", "environment", "selected_checkpoint"}
MAY_IMPORT: dict[str, set[str]] = {
    "ncsn": set(),
    "git": set(),
    "files": {"ncsn"},
    "selected_checkpoint": {"ncsn", "files"},
    "memmap": set(),
    "environment": set(),
    "data": BASE,
    "metrics": BASE,
    "training": BASE | {"data"},
    "toy": BASE | {"data"},
    "dvcfile": BASE,
    "params": BASE,
    "tracking": BASE | {"training", "dvcfile"},
    "reporting": BASE | {"toy", "dvcfile"},
    "verify": BASE | {"reporting", "tracking", "dvcfile"},
    "generate": BASE | {"data", "metrics", "training", "cluster"},
    "search": BASE | {"data", "metrics", "training", "cluster", "generate"},
    "cluster": BASE | {"training", "dvcfile"},
    "commands": BASE | {"data", "training", "reporting", "params"},
    "entry": BASE | {"params", "cluster", "tracking"},
    "stages": {"*"},
}
CORE = ("ncsn",)
HEAVY = ("ray", "mlflow", "dvc", "pydantic", "scipy", "sklearn", "pandas", "matplotlib", "optuna")
CONFINED = {
    "ray": ("pipeline/cluster/", "pipeline/generate/", "pipeline/search/"),
    "mlflow": ("pipeline/tracking/mlflow_store.py",),
}
STAGE_LINES = 70


def sources(root: Path) -> list[Path]:
    return [*sorted((root / "pipeline").rglob("*.py")), *sorted((root / "stages").glob("*.py"))]


def part(module: str) -> str:
    """`pipeline.data.order` -> `data`; `stages.train` -> `stages`."""
    pieces = module.split(".")
    return "stages" if pieces[0] == "stages" else (pieces[1] if len(pieces) > 1 else "")


def wrong_arrows(root: Path) -> list[str]:
    found = []
    for path in sources(root):
        here = part(module_of(path, root))
        allowed = MAY_IMPORT.get(here, set()) if here else set()
        for module in imports(path, root):
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
        for module in imports(path, root)
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
    names = set(of_one_seed(root)) - {"program"}
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


def dependency_mismatch(root: Path) -> list[str]:
    """A stage depends on the program that it reaches, by the file that `pipeline.program` writes, and on no source."""
    found = []
    for name, stage in of_one_seed(root).items():
        sources = {
            dep for dep in stage["deps"] if dep.startswith(("pipeline", "stages", "artifacts/program"))
        }
        wanted = {"pipeline", "stages"} if name == "program" else {f"artifacts/program/{name}"}
        if sources - {"pipeline/reporting/page.html.j2"} != wanted:
            found.append(f"{name} depends on {sorted(sources)} instead of {sorted(wanted)}")
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
    (wrong_arrows, "pipeline/ncsn/samplers/nfe.py", "def f():\n    import pipeline.params\n"),
    (wrong_arrows, "pipeline/training/loop.py", "from pipeline import tracking\n"),
    (wrong_arrows, "pipeline/tracking/mlflow_store.py", "import stages.train\n"),
    (escaped, "pipeline/training/loop.py", "def f():\n    import ray\n"),
    (escaped, "stages/train.py", "from mlflow import MlflowClient\n"),
    (core_import_error, "pipeline/ncsn/noise.py", "import scipy.stats\n"),
    (stage_mismatch, "stages/extra.py", "x = 1\n"),
    (stage_mismatch, "stages/train.py", "#\n" * STAGE_LINES),
    (dependency_mismatch, "stages/prepare.py", "from pipeline.ncsn.samplers import langevin\n"),
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
