"""A sum over microshards whose bits do not depend on who computed which of them."""

from typing import TypeVar

import torch
import torch.distributed as dist

Group = dist.ProcessGroup | None
T = TypeVar("T")


def place(group: Group) -> tuple[int, int]:
    """(rank, number of workers); (0, 1) outside of torch.distributed."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def pairwise(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """One level of the tree: neighbours added, an odd one out carried along."""
    sums = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
    return [*sums, parts[-1]] if len(parts) % 2 else sums


def sum_in_order(parts: list[torch.Tensor], group: Group) -> torch.Tensor:
    """The sum over all workers' parts (P,), equal in every bit on any number of workers.

    Parts are added along one binary tree over all microshards in order. While a worker holds an even
    number of parts, the next level of that tree lies inside the worker, so it adds before it sends:
    with a power of two of microshards each worker sends a single vector, as plain DDP does. Checked on the
    CPU; on CUDA equality is expected but was not checked.
    """
    _, workers = place(group)
    while len(parts) > 1 and (workers == 1 or len(parts) % 2 == 0):
        parts = pairwise(parts)
    if workers > 1:
        parts = _gathered(torch.stack(parts), workers, group)
        while len(parts) > 1:
            parts = pairwise(parts)
    return parts[0]


def _gathered(mine: torch.Tensor, workers: int, group: Group) -> list[torch.Tensor]:
    everyone = mine.new_empty(workers * mine.shape[0], mine.shape[1])
    dist.all_gather_single(everyone, mine, group=group)
    return list(everyone)


def gathered(value: T, group: Group) -> list[T]:
    """Every worker's value, in the order of ranks."""
    _, workers = place(group)
    values = [value] * workers
    if workers > 1:
        dist.all_gather_object(values, value, group=group)
    return values
