"""The documentation: what its pages name exists, its sentences are short, its code runs."""

import functools
import importlib.util
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.training import checkpoints
from pipeline.training.state import fresh
from tests.training.tiny import make_task

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if path.name not in ("CHANGELOG.md", "table.md")
)
GUIDES = [page for page in PAGES if not page.startswith(("docs/results/", "docs/performance"))]
"""Pages without history; results have commits and the words of their day."""
FOLDERS = ("pipeline", "stages", "tests", "docs", "conf", "benchmarks", ".ci")
PLACE = re.compile("[A-Z]{3,}|[*<>{}]|\\.\\.\\.")
"""What makes a path or key a pattern: NAME, *, <fingerprint>."""
LONGEST_MEDIAN = 25
README_LINES = 130
README_PROGRAM = 12
"""Lines, a blank one among them."""
WIDTH = 120
WORDS = {
    "mend": "fix or repair",
    "anew": "again",
    "beside": "next to",
    "goes on": "resumes or continues",
    "no number": "NaN",
    "heeds": "uses",
    "microshards": "micro-batches",
    "variant": "network or row",
}
"""Words that the pages do not use, and what to say."""

YAML_1_2 = YAML(typ="safe")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text: str, language: str = "") -> list[str]:
    """The content of the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """A page without its code blocks, tables, headings, pictures and comments."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "#", "![", "<!--"))]
    return "\n".join(lines)


def marked(text: str) -> list[str]:
    """What stands in backticks, outside code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def links(text: str) -> list[str]:
    """Targets of links and pictures, those to the web left out."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return [target for target in found if not target.startswith(("http:", "https:"))]


def slugs(text: str) -> set[str]:
    """Anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in heads}


def sentences(text: str) -> list[str]:
    """Sentences of the prose, each item of a list being one at least."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", prose(text))
    parts = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )|(?<=[.!?])\s+(?=[A-Z`*(])", plain)
    return [part for part in parts if len(part.split()) > 1]


def lost_links(page: str, text: str) -> Iterator[str]:
    for target in links(text):
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        if not file.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in slugs(file.read_text(encoding="utf-8")):
            yield f"{target}: no such heading"


def lost_paths(text: str) -> Iterator[str]:
    """Files and folders of the repository that are named and not there."""
    for name in marked(text):
        place = name.rstrip("/")
        known = place.startswith(tuple(f"{folder}/" for folder in FOLDERS))
        test = re.fullmatch(r"(?:\w+/)*test_\w+\.py", place)
        if PLACE.search(place) or " " in place or not (known or test):
            continue
        if not (ROOT / (f"tests/{place}" if test and not known else place)).exists():
            yield name


@functools.cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*##", text_of("Makefile"), re.MULTILINE))


@functools.cache
def stages() -> set[str]:
    plan = YAML_1_2.load(ROOT / "dvc.yaml")["stages"]
    return set(plan)


def code(text: str) -> list[str]:
    """Lines of commands: in backticks, and in blocks without a language or of a shell."""
    return [*marked(text), *(line for block in blocks(text, "(?:bash)?") for line in block.splitlines())]


def lost_commands(text: str) -> Iterator[str]:
    for line in code(text):
        for module in re.findall(r"python -m ([\w.]+)", line):
            if module.partition(".")[0] in FOLDERS and importlib.util.find_spec(module) is None:
                yield f"python -m {module}"
        for target in re.findall(r"(?:^|&& |`)make ([a-z]+)\b", line):
            if target not in make_targets():
                yield f"make {target}"
        for names in re.findall(r"dvc repro((?: [a-z][\w@-]*)+)", line):
            yield from (f"dvc repro {name}" for name in names.split() if name.split("@")[0] not in stages())


@functools.cache
def keys() -> set[str]:
    """Every key of params.yaml, dotted, that of an entry by NETWORK or ROW; with the sections above."""
    sys.path.insert(0, str(ROOT / "docs/_site"))
    import params_reference

    found = {key.dotted for key in params_reference.walk(params_reference.Params, ())}
    return {key.rsplit(".", n)[0] for key in found for n in range(key.count(".") + 1)}


def is_key(name: str) -> bool:
    """Whether a dotted name is a key, or one of an entry by name."""
    parts = name.split(".")
    found = {tuple(key.split(".")) for key in keys() if key.count(".") == len(parts) - 1}
    return any(all(a == b or a.isupper() for a, b in zip(key, parts, strict=True)) for key in found)


def lost_keys(text: str) -> Iterator[str]:
    """Keys of params.yaml that are named in backticks, on a command line or in a block of YAML."""
    sections = {key for key in keys() if "." not in key}
    for name in marked(text):
        if re.fullmatch(r"[a-z_]+(\.\w+)+", name.partition(":")[0]) and name.split(".")[0] in sections:
            yield from [] if is_key(name.partition(":")[0]) or _is_file(name) else [name]
    for name in re.findall(r"-S '?([\w.]+)=", text):
        yield from [] if is_key(name) else [name]
    for block in blocks(text, "yaml"):
        yield from _lost_in_block(block, sections)


def _is_file(name: str) -> bool:
    return name.endswith((".py", ".json", ".yaml", ".csv", ".md"))


def _lost_in_block(block: str, sections: set[str]) -> Iterator[str]:
    content = YAML_1_2.load(block.replace("...,", "").replace(", ...", ""))
    for name, value in content.items():
        if name in sections and isinstance(value, dict):
            yield from (key for key in _dotted(name, value) if not is_key(key))


def _dotted(name: str, value: object) -> Iterator[str]:
    if isinstance(value, dict) and name not in ("tune_sampler.baseline.sampler", "tune_noise.sampler"):
        for key, inner in value.items():
            yield from _dotted(f"{name}.{key}", inner)
    else:
        yield name


def hashes(text: str) -> list[str]:
    """What looks like a commit: seven or more hexadecimal digits, a letter and a digit among them."""
    found = re.findall(r"(?<![\w.])[0-9a-f]{7,40}(?!\w)", text)
    return [name for name in found if re.search("[a-f]", name) and re.search("[0-9]", name)]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    assert not list(lost_links(page, text_of(page)))


@pytest.mark.parametrize("page", GUIDES)
def test_paths_commands_and_keys_exist(page: str) -> None:
    text = text_of(page)
    assert not [*lost_paths(text), *lost_commands(text), *lost_keys(text)]


@pytest.mark.parametrize("page", PAGES)
def test_sentences_are_short(page: str) -> None:
    lengths = [len(sentence.split()) for sentence in sentences(text_of(page))]
    assert not lengths or statistics.median(lengths) <= LONGEST_MEDIAN


@pytest.mark.parametrize("page", GUIDES)
def test_guides_have_plain_words_one_width_and_no_commits(page: str) -> None:
    text = text_of(page)
    said = [word for word in WORDS if re.search(rf"\b{word}\b", prose(text))]
    assert not [f"{word}: say {WORDS[word]}" for word in said]
    assert not [line for line in prose(text).splitlines() if len(line) > WIDTH]
    assert not hashes(text)


@pytest.mark.parametrize(
    ("check", "fault"),
    [
        (lambda text: lost_links("README.md", text), "[x](docs/nowhere.md)"),
        (lambda text: lost_links("README.md", text), "[x](docs/glossary.md#nowhere)"),
        (lost_paths, "`pipeline/nowhere.py`"),
        (lost_paths, "`metrics/test_nowhere.py`"),
        (lost_commands, "`python -m pipeline.commands.nowhere`"),
        (lost_commands, "`make nowhere`"),
        (lost_commands, "```\ndvc repro nowhere@x\n```"),
        (lost_keys, "`train.nowhere`"),
        (lost_keys, "`dvc exp run -S generate.sets=2`"),
        (lost_keys, "```yaml\nsampler:\n  edm: {kind: heun, step_lr: 1.0}\n```"),
        (hashes, "measured at 362d688"),
    ],
)
def test_a_planted_fault_is_found(check, fault: str) -> None:  # type: ignore[no-untyped-def]
    assert list(check(fault))


def test_sentences_are_told_apart() -> None:
    text = "One two three. Four five six\nseven.\n\n- Eight nine.\n- Ten eleven twelve.\n\n| a | b c d e |\n"
    assert [len(sentence.split()) for sentence in sentences(text)] == [3, 4, 3, 4]


def test_the_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= README_LINES


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r"[\w/]+\.md", text_of("mkdocs.yml").partition("\nnav:\n")[2]))
    there = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert listed == there


def test_every_key_of_params_has_a_meaning() -> None:
    keys()
    import params_reference

    found = params_reference.walk(params_reference.Params, ())
    assert not [key.dotted for key in found if not key.meaning]


def test_the_readme_draws_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python of README.md, on an untrained network in place of the trained one."""
    network = {"kind": "unet", "channels": 1, "image_size": 8, "width": 8, "sigmas": (40.0, 1.0, 0.001)}
    checkpoints.save(tmp_path / "artifacts/models/edm", fresh(make_task(network=network)))
    monkeypatch.chdir(tmp_path)
    (program,) = blocks(text_of("README.md"), "python")
    names: dict[str, Any] = {}
    exec(program, names)
    assert names["images"].shape == (16, 1, 8, 8)
    assert str(names["images"].dtype) == "torch.uint8"
    assert len(program.splitlines()) <= README_PROGRAM
