"""The architecture as a test: each rule holds here, and each is shown to catch a planted fault."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.dvcfile import PROGRAMS, SOURCES
from pipeline.program import files_of, imports, module_of

ROOT = Path(__file__).resolve().parents[1]

BASE = {
    "ncsn",
    "files",
    "memmap",
    "git",
    "environment",
    "kernels",
    "progress",
    "pictures",
    "redaction",
    "selected_checkpoint",
}
MAY_IMPORT: dict[str, set[str]] = {
    "ncsn": set(),
    "git": set(),
    "pictures": set(),
    "progress": set(),
    "redaction": set(),
    "files": {"ncsn"},
    "selected_checkpoint": {"ncsn", "files"},
    "memmap": set(),
    "kernels": set(),
    "environment": {"kernels"},
    "program": {"dvcfile", "environment", "files", "kernels", "ncsn"},
    "data": BASE,
    "metrics": BASE,
    "training": BASE | {"data", "program"},
    "toy": BASE | {"data"},
    "dvcfile": BASE,
    "seeds": set(),
    "params": BASE | {"training", "metrics", "seeds"},
    "settle": BASE | {"params"},
    "tracking": BASE | {"training", "dvcfile", "generate"},
    "reporting": BASE | {"data", "toy", "dvcfile", "metrics"},
    "verify": BASE | {"data", "reporting", "tracking", "dvcfile", "program"},
    "generate": BASE | {"data", "metrics", "training", "cluster", "program"},
    "search": BASE | {"data", "metrics", "training", "cluster", "generate", "program"},
    "cluster": BASE | {"training", "dvcfile"},
    "proposal": BASE | {"data", "metrics", "training", "params"},
    "commands": BASE | {"data", "metrics", "training", "reporting", "params", "tracking", "proposal"},
    "entry": BASE | {"params", "cluster", "tracking", "dvcfile"},
    "stages": {"*"},
}
CORE = ("ncsn",)
CORE_NEEDS = ("torch", "numpy", "safetensors")
HEAVY = ("ray", "mlflow", "dvc", "pydantic", "scipy", "sklearn", "pandas", "matplotlib", "optuna")
CONFINED = {
    "ray": ("pipeline/cluster/", "pipeline/generate/", "pipeline/search/"),
    "mlflow": ("pipeline/tracking/mlflow_store.py",),
}
STAGE_LINES = 72


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


def foreign_to_core(root: Path) -> list[str]:
    """imports in the core that are absolute and of neither the standard library nor `CORE_NEEDS`."""
    allowed = {*sys.stdlib_module_names, *CORE_NEEDS}
    return [
        f"{path.relative_to(root)} imports {name}"
        for part in CORE
        for path in sorted((root / "pipeline" / part).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_bytes()))
        for name in _absolute(node)
        if name.partition(".")[0] not in allowed
    ]


def _absolute(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


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


def circles(root: Path) -> list[str]:
    """Modules of pipeline/ that import each other, directly or through others, in a function or at the top."""
    files_of.cache_clear()  # of another tree, before a fault was planted
    paths = (root / "pipeline").rglob("*.py")
    targets = {path: {files_of(name, root)[-1:] for name in imports(path, root)} for path in paths}
    edges = {path: {one for found in several for one in found} for path, several in targets.items()}
    inside: set[Path] = set()
    while inside != edges.keys():  # those that import others and are imported, until no module drops out
        inside = set(edges)
        targeted = set().union(*edges.values())
        edges = {path: below & inside for path, below in edges.items() if below & inside and path in targeted}
    return sorted(module_of(path, root) for path in edges)


def pipeline_yaml(root: Path) -> dict[str, Any]:
    return dict(YAML(typ="safe").load(root / "dvc.yaml")["stages"])


def stage_mismatch(root: Path) -> list[str]:
    files = {p.stem for p in (root / "stages").glob("*.py")} - {"__init__"}
    names = set(of_one_seed(root)) - {"program"}
    found = [f"no stages/{n}.py" for n in names - files] + [f"stage {n} not in dvc.yaml" for n in files - names]
    for path in (root / "stages").glob("*.py"):
        if len(path.read_text().splitlines()) > STAGE_LINES:
            found.append(f"{path.name} is longer than {STAGE_LINES} lines")
    return found


def of_one_seed(root: Path) -> dict[str, Any]:
    """The stages without those named X_more, X for further training seeds; of a template what it repeats."""
    stages = pipeline_yaml(root).items()
    return {name: stage.get("do", stage) for name, stage in stages if not name.endswith("_more")}


def seed_mismatch(root: Path) -> list[str]:
    """A stage of further seeds is its first seed's, but for where its row and network come from."""
    stages = pipeline_yaml(root)
    wanted = {f"{name}_more": more_of(stage) for name, stage in stages.items() if {"matrix", "foreach"} & {*stage}}
    wanted = {name: stage for name, stage in wanted.items() if not name.endswith("_more_more")}
    found = {name: stage for name, stage in stages.items() if name.endswith("_more")}
    return [name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)]


def more_of(stage: dict[str, Any]) -> dict[str, Any]:
    """The stage for further seeds: of networks with another axis, of rows on another list."""
    if "matrix" in stage:
        return stage | {"matrix": stage["matrix"] | {"seed": "${extra_seeds}"}}
    text = json.dumps(stage["do"]).replace("${item}", "${item.network}")
    for place in ("artifacts/program/generate/", "artifacts/program/evaluate/", "artifacts/sampler/"):
        text = text.replace(f"{place}${{key}}", f"{place}${{item.row}}")
    return {"foreach": "${extra_rows}", "do": json.loads(text)}


def dependency_mismatch(root: Path) -> list[str]:
    """A stage depends on its program, a file that `pipeline.program` writes, and on no source itself."""
    found = []
    for name, stage in of_one_seed(root).items():
        code = {dep for dep in stage["deps"] if dep.startswith((*SOURCES, PROGRAMS))}
        code = {dep.split("/$")[0] for dep in code - {"pipeline/reporting/page.html.j2"}}
        wanted = {*SOURCES} if name == "program" else {f"{PROGRAMS}{name}"}
        if code != wanted:
            found.append(f"{name} depends on {sorted(code)} instead of {sorted(wanted)}")
    return found


def params_mismatch(root: Path) -> list[str]:
    """Sections read as `params.X` in a stage's file against the sections its dvc.yaml entry declares."""
    unwatched = {"compute", "tracking", "networks", "rows", "extra_seeds", "preset"}
    methods = {"trainings", "all_rows", "searches"}
    found = []
    for name, stage in of_one_seed(root).items():
        if name == "program":
            continue
        tree = ast.parse((root / f"stages/{name}.py").read_text())
        read = (
            {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
            }
            - unwatched
            - methods
        )
        declared = {p.split(".")[0] for p in stage.get("params", [])} - unwatched
        if read != declared:
            found.append(f"{name} reads {sorted(read)} and declares {sorted(declared)}")
    return found


RULES = [
    wrong_arrows,
    circles,
    escaped,
    core_import_error,
    foreign_to_core,
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
    (wrong_arrows, "pipeline/ncsn/samplers/heun.py", "def f():\n    import pipeline.params\n"),
    (wrong_arrows, "pipeline/training/loop.py", "from pipeline import tracking\n"),
    (wrong_arrows, "pipeline/tracking/mlflow_store.py", "import stages.train\n"),
    (circles, "pipeline/ncsn/errors.py", "def f():\n    from .kinds import find\n"),
    (circles, "pipeline/ncsn/noise.py", "from .ladder import Ladder\n"),
    (escaped, "pipeline/training/loop.py", "def f():\n    import ray\n"),
    (escaped, "stages/train.py", "from mlflow import MlflowClient\n"),
    (core_import_error, "pipeline/ncsn/noise.py", "import scipy.stats\n"),
    (foreign_to_core, "pipeline/ncsn/noise.py", "from pipeline.ncsn.errors import UserError\n"),
    (foreign_to_core, "pipeline/ncsn/samplers/heun.py", "def f():\n    import PIL\n"),
    (stage_mismatch, "stages/extra.py", "x = 1\n"),
    (stage_mismatch, "stages/train.py", "#\n" * STAGE_LINES),
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


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (
            dependency_mismatch,
            "deps: [artifacts/program/prepare]",
            "deps: [artifacts/program/prepare, pipeline/toy]",
        ),
        (dependency_mismatch, "- artifacts/program/toy", "- artifacts/program/report"),
        (dependency_mismatch, "deps: [pipeline, stages, extensions]", "deps: [pipeline, stages]"),
        (seed_mismatch, "artifacts/sampler/${item.row}.yaml", "artifacts/sampler/${key}.yaml"),
        (seed_mismatch, "seed: ${extra_seeds}", "seed: ${networks}"),
        (seed_mismatch, "artifacts/program/generate/${item.row}", "artifacts/program/generate/${key}"),
    ],
)
def test_a_wrong_line_of_dvc_yaml_is_caught(rule: Any, right: str, wrong: str, tmp_path: Path) -> None:
    text = (ROOT / "dvc.yaml").read_text()
    assert right in text
    (tmp_path / "dvc.yaml").write_text(text.replace(right, wrong, 1))
    assert rule(tmp_path)
