"""The files of a sampler search: every trial, what was measured again, the front, and the choices."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.files import write_yaml
from pipeline.search.records import TrialRecord, write_csv, write_trials
from pipeline.search.sampler import FoundSampler
from pipeline.search.sampler_verdict import Chosen

TRIALS, REPEATS, PARETO, BEST = "trials.csv", "repeats.csv", "pareto.csv", "best.yaml"


def write_found(folder: Path, found: FoundSampler) -> None:
    """Write to a folder

    - trials.csv and rungs.csv: see `trials.write_trials`; a setting that a kind has not is empty,
    - repeats.csv: FID at each rung of all that was chosen or compared, on seeds that no trial used,
    - pareto.csv: the trials judged on all samples, the cheapest first, on_front 0 or 1, and as what it is
      `chosen`,
    - best.yaml: the analytic choice, the baseline and each choice side by side, and the verdict; of a choice
      also its `sampler` in numbers.
    """
    write_trials(folder, _filled(found.records))
    write_csv(folder / REPEATS, list(_repeats(found.chosen)))
    write_csv(folder / PARETO, list(_pareto(found.chosen)))
    lines = {name: dict(line) for name, line in found.chosen.lines.items()}
    for name, candidate in found.chosen.by_choice.items():
        lines[name]["sampler"] = candidate.sampler.plain()
    write_yaml(folder / BEST, {**lines, "verdict": found.chosen.verdict})


def _filled(records: list[TrialRecord]) -> list[TrialRecord]:
    """The same with one set of columns: what a trial has not is empty."""
    settings = dict.fromkeys(name for record in records for name in record.settings)
    numbers = dict.fromkeys(name for record in records for rung in record.rungs for name in rung)
    return [
        TrialRecord(
            r.trial,
            {name: r.settings.get(name, "") for name in settings},
            tuple(_filled_rung(rung, numbers) for rung in r.rungs),
            r.status,
            r.reason,
            r.seconds,
        )
        for r in records
    ]


def _filled_rung(rung: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: rung.get(name, "") for name in names}


def _repeats(chosen: Chosen) -> Iterator[dict[str, Any]]:
    for name, seeds in chosen.again.items():
        for seed, rungs in enumerate(seeds, 1):
            for rung in rungs:
                numbers = {key: rung[key] for key in ("samples", "nfe", "fid", "fid_raw")}
                yield {"trial": name, "seed": seed, **numbers}


def _pareto(chosen: Chosen) -> Iterator[dict[str, Any]]:
    for candidate in sorted(chosen.candidates, key=lambda c: (c.point.nfe, c.point.fid)):
        choices = [name for name, one in chosen.by_choice.items() if one is candidate]
        names = ["analytic", *choices] if candidate is chosen.analytic else choices
        yield {
            "trial": candidate.record.trial,
            "sampler": candidate.sampler.kind,
            "nfe": candidate.point.nfe,
            "fid": candidate.point.fid,
            "num_samples": int(candidate.record.metrics["samples"]),
            "on_front": int(any(candidate is one for one in chosen.front)),
            "chosen": " ".join(names),
        }
