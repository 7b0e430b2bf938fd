"""What a folder of samples says of itself."""

from pathlib import Path

import pytest

from pipeline.files import write_json
from pipeline.metrics.drawn import Drawn
from pipeline.ncsn.errors import UserError
from pipeline.ncsn.ladder import Ladder
from pipeline.ncsn.sampler import Sampler


def test_the_sampler_is_read_from_the_manifest(tmp_path: Path) -> None:
    sampler = Sampler("heun", Ladder(3.0, 0.02, 6, 7.0), {}, start="data")
    manifest = {"num_samples": 4, "nfe": {"raw": 10}, "sha256": {}, "sampler": sampler.plain(), "sample_sets": 2}
    write_json(tmp_path / "manifest.json", manifest)
    found = Drawn.read(tmp_path)
    assert found.sampler == sampler and found.sample_sets == 2
    write_json(tmp_path / "manifest.json", {"num_samples": 4, "nfe": {"raw": 10}})
    with pytest.raises(UserError, match=r"manifest\.json has no key 'sha256': delete .* and run `dvc repro`"):
        Drawn.read(tmp_path)
