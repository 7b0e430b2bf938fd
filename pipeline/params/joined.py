"""Old names for the rooms that have not got the new ones yet; joined with TRAINING and gone with it."""

from typing import Any

from pipeline.params.training import Exponential, Recipe


def recipe(section: Recipe) -> dict[str, Any]:
    """A recipe under the keys of version 1."""
    found, adam = section.kwargs(), section.optimizer
    rest = {key: value for key, value in found.items() if key not in ("optimizer", "schedule", "ema")}
    rate = section.ema.rate if isinstance(section.ema, Exponential) else 0.0
    return rest | {"lr": adam.lr, "betas": adam.betas, "adam_eps": adam.eps, "ema_rate": rate}


def train(section: dict[str, Any]) -> dict[str, Any]:
    """The section `train` under the keys of version 1."""
    found = dict(section)
    shards = found.pop("micro_batches")
    how = {"bitwise": "elastic", "fast": "fast"}[found["determinism"]]
    return found | {"microshards": shards, "determinism": how}
