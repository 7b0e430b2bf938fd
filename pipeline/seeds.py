"""Seeds of trainings and samples: a further training seed S adds S to the seed of its samples' noise."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Training(NamedTuple):
    """One training of a network."""

    network: str
    """The key of `recipes` and `noise`."""
    seed: int


class TableRow(NamedTuple):
    """One row of the table on one training of its network."""

    row: str
    """The key of `rows` and `sampler`."""
    network: str
    """The name of the training's files."""
    offset: int
    """Added to generate.seed, so that no two trainings share the noise of a sample."""


def trainings(networks: Sequence[str], seed: int, extra_seeds: Sequence[int]) -> dict[str, Training]:
    """Every training by the name of its files: NETWORK, and NETWORK-SEED of each further seed.

    Args:
        seed: `train.seed`.
    """
    first = {name: Training(name, seed) for name in networks}
    return first | {f"{name}-{more}": Training(name, more) for name in networks for more in extra_seeds}


def table_rows(rows: Mapping[str, str], extra_seeds: Sequence[int]) -> dict[str, TableRow]:
    """Every row by the name of its files: ROW, and ROW-SEED of each further seed.

    Args:
        rows: ROW: NETWORK.
    """
    first = {row: TableRow(row, network, 0) for row, network in rows.items()}
    return first | {
        f"{row}-{seed}": TableRow(row, f"{network}-{seed}", seed)
        for row, network in rows.items()
        for seed in extra_seeds
    }
