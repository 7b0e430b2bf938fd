"""Whatever a file holds, it is read, or refused by the one error that a user is shown: never by another.

The examples are the same in every run.
"""

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipeline.data.dataset import read_manifest
from pipeline.metrics.drawn import Drawn
from pipeline.ncsn.errors import UserError
from pipeline.params import load, parse
from pipeline.tracking.deliver import Delivery
from pipeline.tracking.record import BEGIN, DAMAGED, Delivered, RecordFile, _sealed, encode
from pipeline.training import checksums
from pipeline.training.checkpoints import load_network
from pipeline.verify.table import read_written

ROOT = Path(__file__).parents[1]
DIGITS = (ROOT / "conf/digits.yaml").read_text()
RAW = YAML(typ="safe").load(DIGITS)
TABLE = json.loads((ROOT / "docs/results/digits/table.json").read_text())

fuzzed = settings(
    derandomize=True,
    max_examples=150,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container with each of its keys, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@st.composite
def mutated(draw: st.DrawFn, whole: Any) -> Any:
    """A value with one to three of its parts replaced, taken out, or moved to another key."""
    made = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(places(made) or [({"": 0}, "")]))
        kind = draw(st.sampled_from(["replace", "drop", "rename"]))
        old = container.pop(key)
        if kind == "replace":
            container.insert(key, draw(values)) if isinstance(container, list) else container.update(
                {key: draw(values)}
            )
        elif kind == "rename" and isinstance(container, dict):
            container[draw(st.text(max_size=6))] = old
    return made


@st.composite
def torn(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes with one to three of them changed, or cut off, or with others in between."""
    made = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(made) - 1)))
        made[at : draw(st.sampled_from([at, at + 1, at + 9, len(made)]))] = draw(st.binary(max_size=4))
    return bytes(made)


def read_or_refused(read: Callable[[], object]) -> None:
    """Read something; a refusal must be one that names something."""
    try:
        read()
    except UserError as error:
        assert str(error).strip()


WRONG = [3, -1, 2.5, "x", "", [], [1], {}, {"a": 1}, None, True, math.nan, 10**400, "x" * 300, ["x", ["y"]]]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_wrong_value_at_any_place_of_the_parameters(wrong: Any) -> None:
    """Each entry in turn, at any depth, without chance."""
    for index in range(len(places(RAW))):
        made = copy.deepcopy(RAW)
        container, key = places(made)[index]
        container[key] = wrong
        read_or_refused(lambda made=made: parse(made, "params.yaml"))


@fuzzed
@given(mutated(RAW))
def test_parameters_of_any_shape(raw: Any) -> None:
    read_or_refused(lambda: parse(raw, "params.yaml"))


@fuzzed
@given(content=torn(DIGITS.encode()))
def test_a_params_file_of_any_bytes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    read_or_refused(lambda: load(tmp_path / "params.yaml"))


HEADING: dict[str, Any] = {
    **dict.fromkeys(("uri", "root", "experiment", "identity", "name", "owner"), "x"),
    **{"params": {}, "tags": {}, "made_with": {}, "alone": True, "last": False, "shows": [{}], "parent": None},
    "attach": None,
    "pipeline": {"named": False, "title": "t", "tags": {}, "params": {}},
}
LINES = [
    encode(1, (), BEGIN, HEADING),
    encode(2, (), "log_metrics", {"metrics": {"loss": 1.0}, "step": 1}),
    encode(3, (0, 1), "set_tags", {"tags": {"a": "b"}}, once="tags"),
    encode(4, (), "end", {"status": "FINISHED"}),
]


def read_record(path: Path) -> None:
    """All that is asked of a record before anything of it is delivered."""
    record = RecordFile(path)
    lines = record.lines()
    assert all(line.call == DAMAGED or line.end > line.start for line in lines)
    assert isinstance(record.delivered(), Delivered)
    assert {record.pending(), record.ended()} <= {True, False}
    Delivery(record, lambda heading: pytest.fail(f"nothing is to be opened: {heading}"))


@fuzzed
@given(content=torn(b"".join(LINES)), state=torn(_sealed(vars(Delivered()))))
def test_a_record_of_any_bytes(content: bytes, state: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "a.state").write_bytes(state)
    read_record(tmp_path / "a.jsonl")


@fuzzed
@given(
    said=st.lists(mutated([json.loads(line[9:]) for line in LINES]), min_size=1, max_size=1),
    state=mutated([vars(Delivered())]),
)
def test_a_record_whose_lines_are_whole_and_say_anything(said: list[Any], state: list[Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"".join(_sealed(line) for line in said[0]))
    (tmp_path / "a.state").write_bytes(b"".join(_sealed(one) for one in state[:1]))
    read_record(tmp_path / "a.jsonl")


MANIFESTS: dict[str, tuple[Callable[[Path], object], Any]] = {
    "data": (lambda path: read_manifest(path), {"sha256": {"images": "0", "labels": "0"}, "manifest_sha256": "0"}),
    "samples": (
        lambda path: Drawn.read(path.parent),
        {
            "sampler": {"kind": "langevin", "step_size": 0.1},
            "sha256": {"raw.npy": "0"},
            "num_samples": 4,
            "sample_sets": 1,
        },
    ),
    "checksums": (lambda path: checksums.verify(path.parent), {"ema.safetensors": "0", "state.json": "0"}),
    "checkpoint": (lambda path: load_network(path.parent), {"ema.safetensors": "0", "state.json": "0"}),
    "table": (
        lambda path: read_written(path),
        {key: value for key, value in TABLE.items() if key != "rows"} | {"rows": TABLE["rows"][:1]},
    ),
}


@fuzzed
@pytest.mark.parametrize("name", MANIFESTS)
@given(data=st.data())
def test_a_manifest_of_any_shape(name: str, data: st.DataObject, tmp_path: Path) -> None:
    read, whole = MANIFESTS[name]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(data.draw(mutated(whole))))
    read_or_refused(lambda: read(path))
    path.write_bytes(data.draw(torn(json.dumps(whole).encode())))
    read_or_refused(lambda: read(path))


@pytest.mark.parametrize(
    ("key", "value"), [("owner", []), ("name", 3), ("tags", {"a": []}), ("shows", "x"), ("pipeline", {"title": "t"})]
)
def test_a_heading_of_other_types_is_none(key: str, value: object, tmp_path: Path) -> None:
    begin, *others = (json.loads(line[9:]) for line in LINES)
    begin["arguments"][key] = value
    (tmp_path / "a.jsonl").write_bytes(b"".join(map(_sealed, [begin, *others])))
    assert RecordFile(tmp_path / "a.jsonl").lines()[0].heading() is None
    read_record(tmp_path / "a.jsonl")
