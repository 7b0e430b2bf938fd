"""The runs that a row names, against MLflow's own record of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.files import sha256
from pipeline.reporting.lineage import RESULTS, Made, key_tag
from pipeline.tracking import Record
from pipeline.verify.findings import AGAIN, Finding


def findings(
    made: Made, name: str, data_sha256: str | None, artifacts: Path, records: Mapping[str, Record]
) -> Iterator[Finding]:
    """What of a run is not as the row has it, or as the file that it wrote.

    Args:
        name: of the stage's instance.
        data_sha256: of the images that the row names.
        records: run id -> MLflow's record; a run that it does not have is left out.
    """
    if made.run_id is None:
        return
    what = f"MLflow run {made.run_id} of {made.stage}"
    if (record := records.get(made.run_id)) is None:
        fix = f"set MLFLOW_TRACKING_URI to the store that has it, or {AGAIN}"
        yield Finding(what, "FINISHED", "no such run", fix)
        return
    if record.status != "FINISHED":
        yield Finding(what, "FINISHED", record.status, AGAIN)
    expectations = _tags(made, name, artifacts)
    if "data.sha256" in record.tags:  # `generate` reads no images
        expectations["data.sha256"] = data_sha256
    for tag, expected in expectations.items():
        if (found := record.tags.get(tag)) != expected:
            yield Finding(f"{what}, tag {tag}", expected, found or "none", AGAIN)


def _tags(made: Made, name: str, artifacts: Path) -> dict[str, str | None]:
    """The tags that such a run must have; the commit's only where there is one."""
    git = {"mlflow.source.git.commit": made.commit, "git.dirty": str(made.dirty).lower()}
    key = key_tag(made.stage)
    own = {"stage": made.stage, key: name, "versions": made.versions, "hardware": made.hardware}
    tag, pattern = RESULTS.get(made.stage, ("", ""))
    written = artifacts / pattern.format(name=name)
    result = {tag: sha256(written)} if tag and written.is_file() else {}
    return own | (git if made.commit else {}) | result
