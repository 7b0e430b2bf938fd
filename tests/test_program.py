"""Programs of stages and fingerprints change with what the code says, and only where it is reached."""

import ast
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import dvcfile, program
from pipeline.ncsn.kinds import KINDS_ROOMS
from pipeline.program import ROOT, digest, files, modules

FINGERPRINTS = {
    "task": ("pipeline.training.fit", "pipeline.ncsn.networks.unet"),
    "shard": ("pipeline.generate.generate", "pipeline.ncsn.networks.unet"),
    "search": ("pipeline.search.run", "pipeline.search.algorithms", "pipeline.search.sampler_trial"),
    "scores": ("pipeline.metrics.fid",),
    "choice": ("pipeline.generate.select_checkpoint",),
}
"""Roots such as those that the fingerprints are made with."""
EDITED = ("ncsn/noise.py", "ncsn/samplers/langevin.py", "training/loop.py", "metrics/fid.py")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of all that decides what a program is."""
    for name in ("pipeline", "stages", "extensions"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def programs(root: Path) -> dict[str, str]:
    """Every stage's program file and every fingerprint's digest."""
    program.files_of.cache_clear()  # files may have come
    return files(root) | {name: digest(*roots, root=root) for name, roots in FINGERPRINTS.items()}


def changed(root: Path, edit: Callable[[], object]) -> set[str]:
    """The programs that an edit changes: fingerprints by name, of stages STAGE or STAGE/INSTANCE."""
    before = programs(root)
    edit()
    after = programs(root)
    return {name.removeprefix(dvcfile.PROGRAMS) for name in before | after if before.get(name) != after.get(name)}


def append(path: Path, text: str) -> Callable[[], object]:
    return lambda: path.write_text(path.read_text() + text)


def other_docstrings(text: str) -> str:
    """The same module with another docstring wherever one stands."""
    lines = text.splitlines(keepends=True)
    for node in reversed(list(ast.walk(ast.parse(text)))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            found = node.body[0]
            indent = " " * found.col_offset
            lines[found.lineno - 1 : found.end_lineno] = [f'{indent}"""Other."""\n']
    return "".join(lines)


def commented(text: str) -> str:
    return "# Above.\n" + text.replace("\n\n", "\n# Between.\n\n", 1) + "# Below.\n"


def reformatted(text: str) -> str:
    """The same program without its line breaks and comments, with other quotes."""
    return ast.unparse(ast.parse(text)) + "\n"


@pytest.mark.parametrize("name", EDITED)
@pytest.mark.parametrize("edit", [other_docstrings, commented, reformatted])
def test_a_docstring_a_comment_and_the_layout_change_nothing(edit: Callable[[str], str], name: str, copy: Path) -> None:
    path = copy / "pipeline" / name
    text = path.read_text()
    assert edit(text) != text
    assert changed(copy, lambda: path.write_text(edit(text))) == set()


REACHED = {
    "ncsn/noise.py": {"tune_noise", "generate/ncsn", "search"},
    "training/loop.py": {"train/ncsn", "train/edm", "tune_noise", "task"},
    "metrics/fid.py": {"evaluate/tuned", "tune_sampler", "search", "scores", "choice"},
    "generate/draw.py": {"generate/ncsn", "tune_sampler", "shard", "search", "choice"},
    "search/algorithms.py": {"tune_noise", "tune_sampler", "search"},
    "data/duplicates.py": {"prepare"},
}
NOT_REACHED = {
    "ncsn/noise.py": {"features", "scores"},
    "training/loop.py": {"prepare", "generate/ncsn", "evaluate/ncsn", "shard", "scores", "report"},
    "metrics/fid.py": {"prepare", "train/ncsn", "task", "shard"},
    "generate/draw.py": {"prepare", "train/ncsn", "task", "scores"},
    "search/algorithms.py": {"train/ncsn", "task", "shard", "scores", "choice"},
    "data/duplicates.py": {"train/ncsn", *FINGERPRINTS},
}


@pytest.mark.parametrize("name", REACHED)
def test_a_constant_changes_what_reaches_it_and_nothing_else(name: str, copy: Path) -> None:
    found = changed(copy, append(copy / "pipeline" / name, "\nOTHER = 1\n"))
    assert found >= REACHED[name] and found.isdisjoint(NOT_REACHED[name])


@pytest.mark.parametrize("place", ["tracking/__init__.py", "params/schema.py", "files.py", "entry.py"])
def test_what_only_observes_changes_nothing(place: str, copy: Path) -> None:
    assert changed(copy, append(copy / "pipeline" / place, "\nOTHER = 1\n")) == set()


def test_tables_and_figures_are_the_report_s_own(copy: Path) -> None:
    assert changed(copy, append(copy / "pipeline/reporting/rows.py", "\nOTHER = 1\n")) == {"report"}
    assert changed(copy, append(copy / "pipeline/reporting/figures/style.py", "\nOTHER = 1\n")) == {"report"}


@pytest.mark.parametrize("file", ["ncsn/execution.py", "generate/generate.py", "memmap.py"])
def test_all_that_draws_a_shard_is_in_its_fingerprint(file: str, copy: Path) -> None:
    assert "shard" in changed(copy, append(copy / "pipeline" / file, "\nOTHER = 1\n"))


def test_the_formula_of_seeds_is_part_of_what_follows_from_it(copy: Path) -> None:
    found = changed(copy, append(copy / "pipeline/seeds.py", "\nOTHER = 1\n"))
    assert {"train/edm", "generate/edm", "evaluate/edm"} <= found and "tune_sampler" not in found


@pytest.mark.parametrize("room", ["networks", "samplers", "losses", "optimizers", "schedules", "averages"])
def test_a_new_kind_is_no_other_s_program(room: str, copy: Path) -> None:
    place = copy / "extensions" / room / "mine.py"

    def add() -> None:
        place.parent.mkdir()
        place.write_text("x = 1\n")

    # The frontier draws with every kind of sampler.
    assert changed(copy, add) == ({"frontier"} if room == "samplers" else set())


def test_a_kind_that_a_row_names_is_in_its_program_with_all_that_it_imports(copy: Path) -> None:
    folder = copy / "extensions/samplers"
    folder.mkdir()
    (folder / "mine.py").write_text("from extensions.samplers import _helper\n")
    (folder / "_helper.py").write_text("x = 1\n")

    def name_it() -> None:
        text = (copy / "params.yaml").read_text()
        line = re.search(r"^sampler:.*\n(?:.*\n)*?  ncsn: (\{.*?\})", text, re.M)
        assert line
        (copy / "params.yaml").write_text(text.replace(line[1], "{kind: mine}"))

    assert {"generate/ncsn", "evaluate/ncsn"} < changed(copy, name_it)
    found = changed(copy, append(folder / "_helper.py", "y = 1\n"))
    assert "generate/ncsn" in found and "generate/ncsnv2" not in found


def test_settings_name_the_modules_of_their_kinds() -> None:
    recipe = {"network": {"kind": "unet", "width": 8}, "loss": {"kind": "edm"}, "ema": {"kind": "none"}}
    assert {*modules({"recipes": {"x": recipe}, "train": {"steps": 3}})} - {"builtins"} == {
        *("pipeline.ncsn.networks.unet", "extensions.networks.unet"),
        *("pipeline.ncsn.losses.edm", "extensions.losses.edm"),
        *("pipeline.ncsn.averages.none", "extensions.averages.none"),
    }
    search = {"tune_sampler": {"network": "tuned", "kinds": ["heun"], "baseline": {"sampler": {"kind": "x"}}}}
    assert {*modules(search)} - {"builtins"} == {
        f"{package}.{kind}" for package in ("pipeline.ncsn.samplers", "extensions.samplers") for kind in ("heun", "x")
    }


def test_objects_name_the_modules_of_their_classes() -> None:
    from torch import nn

    from pipeline.generate.draw import draw
    from pipeline.ncsn.networks.ncsnv2 import NCSNv2

    network = nn.Sequential(NCSNv2(channels=1, image_size=8, width=8, sigmas=[1.0, 0.1]))
    found = set(modules({"network": network, "trial": draw}))
    assert {"pipeline.ncsn.networks.ncsnv2", "pipeline.generate.draw"} < found


def test_rooms_are_those_of_the_kinds() -> None:
    rooms = {*program.ROOMS.values(), *program.EVERY_KIND.values()}
    assert rooms == KINDS_ROOMS.keys(), "a room whose kinds no program would have"


def test_modules_of_rooms_are_told_from_others() -> None:
    kinds = ("pipeline/ncsn/samplers/heun.py", "pipeline/ncsn/samplers/_ode.py", "extensions/losses/mine.py")
    others = ("pipeline/ncsn/samplers/__init__.py", "pipeline/ncsn/sampler.py", "pipeline/data/order.py")
    assert [program.is_kind(path) for path in (*kinds, *others)] == [True] * 3 + [False] * 3


def test_only_kinds_and_data_sets_are_imported_by_name() -> None:
    """Else a program would lack what `import_module` finds; that of these is found by `program.ROOMS`."""
    paths = [path for name in ("pipeline", "stages") for path in (ROOT / name).rglob("*.py")]
    dynamic = [path for path in paths if re.search(r"import_module\(|__import__\(", path.read_text())]
    assert {*dynamic} == {ROOT / "pipeline/ncsn/kinds.py", ROOT / "pipeline/data/catalogue.py"}


def test_versions_name_the_packages_that_compute() -> None:
    assert re.fullmatch(r"[0-9a-f]{64} numpy [\d.]+ torch [\d.]+", program.version("pipeline.training.fit"))
    assert re.search(r" optuna [\d.]+", program.version("pipeline.search.algorithms"))
    assert not re.search("ray|safetensors", program.version("pipeline.search.run", "pipeline.training.fit"))
    assert program.version("tests.test_program") == program.version("numpy"), "outside the repository"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "sub/__init__", "sub/d", "sub/e"):
        path = tmp_path / f"pipeline/{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    (tmp_path / "pipeline/__init__.py").write_text("")
    return tmp_path


IMPORTS = {
    "import pipeline.b": "b",
    "from pipeline import b, c": "b c",
    "def f():\n    from pipeline.b import x": "b",
    "class C:\n    def f(self):\n        with x:\n            import pipeline.b as y": "b",
    "try:\n    import numpy\nexcept ImportError:\n    from . import b\nelse:\n    from . import c": "b c",
    "match x:\n    case 1:\n        from .b import y": "b",
    "from .sub import d": "sub/__init__ sub/d",
    "from .sub.e import *": "sub/__init__ sub/e",
    "if TYPE_CHECKING:\n    from . import b\nelse:\n    from . import c": "c",
    "import typing\nif typing.TYPE_CHECKING:\n    from . import b": "",
    "if not TYPE_CHECKING:\n    from . import b": "b",
    "import torch, numpy.linalg": "",
}


@pytest.mark.parametrize("text", IMPORTS)
def test_imports_are_followed_wherever_they_stand(text: str, tiny: Path) -> None:
    (tiny / "pipeline/a.py").write_text(text)
    wanted = {f"pipeline/{name}.py" for name in ("__init__", "a", *IMPORTS[text].split())}
    assert program.program("pipeline.a", root=tiny).keys() == wanted


def test_relative_imports_go_up_from_a_package_as_python_does(tiny: Path) -> None:
    (tiny / "pipeline/sub/__init__.py").write_text("from .d import x")
    (tiny / "pipeline/sub/d.py").write_text("from ..b import x\nfrom .e import y")
    found = program.program("pipeline.sub", root=tiny)
    assert found.keys() == {f"pipeline/{n}.py" for n in ("__init__", "b", "sub/__init__", "sub/d", "sub/e")}


BASE = 'X: int = 1\n@f(2)\ndef g(a, b=3):\n    """Says."""\n    return f"{a} of {b:.2f}"\n'
SAME = {
    "docstring": BASE.replace("Says", "Tells"),
    "no docstring": BASE.replace('    """Says."""\n', ""),
    "attribute docstring": BASE.replace("X: int = 1\n", 'X: int = 1\n"""One."""\n'),
    "comment": BASE.replace("= 1\n", "= 1  # one\n"),
    "layout": BASE.replace("a, b=3", "\n    a,\n    b = 3,\n"),
}
OTHER = {
    "constant": BASE.replace("= 1", "= 2"),
    "type of a constant": BASE.replace("= 1", "= 1.0"),
    "decorator": BASE.replace("@f(2)", "@f(4)"),
    "no decorator": BASE.replace("@f(2)\n", ""),
    "default": BASE.replace("b=3", "b=4"),
    "f-string's text": BASE.replace(" of ", " in "),
    "f-string's format": BASE.replace(".2f", ".3f"),
    "f-string's value": BASE.replace("{a}", "{b}"),
    "string in an expression": BASE + 'Y = """One."""\n',
    "name": BASE.replace("def g", "def h"),
}


@pytest.mark.parametrize(("text", "same"), [*((t, True) for t in SAME.values()), *((t, False) for t in OTHER.values())])
def test_a_module_is_what_it_says(text: str, same: bool, tiny: Path) -> None:
    path = tiny / "pipeline/a.py"
    path.write_text(BASE)
    before = program.meaning_sha256(path)
    path.write_text(text)
    assert (program.meaning_sha256(path) == before) is same


def test_the_command_writes_what_dvc_yaml_depends_on_without_heavy_packages(copy: Path) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'pydantic', 'ray', 'dvc')))"
    code = f"{block}; import runpy; runpy.run_module('pipeline.program', run_name='__main__')"
    begin = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, text=True)
    seconds = time.perf_counter() - begin
    assert done.returncode == 0, done.stderr
    written = {
        p.relative_to(copy).as_posix(): p.read_text() for p in copy.glob("artifacts/program/**/*") if p.is_file()
    }
    assert written == files(copy)
    deps = {dep for entry in dvcfile.entries(copy).values() for dep in entry.deps if dvcfile.is_program(dep)}
    assert written.keys() == deps and all(written.values())
    assert seconds < 5, "under a second where nothing else runs"


def test_a_file_that_is_no_python_is_named(copy: Path) -> None:
    (copy / "stages/train.py").write_text("def f(:\n")
    done = subprocess.run([sys.executable, "-m", "pipeline.program"], cwd=copy, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and "train.py, line 1" in done.stderr
