"""All-reduce in a fixed order: a sum whose bits do not depend on which worker computed which part."""

from typing import TypeVar

import torch
import torch.distributed as dist

Group = dist.ProcessGroup | None
T = TypeVar("T")


def rank_and_workers(group: Group) -> tuple[int, int]:
    """The rank and the number of workers; (0, 1) outside of torch.distributed."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def pairwise(parts: list[torch.Tensor]) -> list[torch.Tensor]:
    """One level of the tree: neighbours are added, an odd last one is kept for the next level."""
    sums = [a + b for a, b in zip(parts[::2], parts[1::2], strict=False)]
    return [*sums, parts[-1]] if len(parts) % 2 else sums


def sum_in_order(parts: list[torch.Tensor], group: Group) -> torch.Tensor:
    """The sum over all workers' parts, each (P,), with the same bits on any number of workers.

    Parts are added along one binary tree over all micro-batches in order. While a worker holds an even number
    of parts, the next level of that tree lies inside the worker, so it adds before it sends: with a power of
    two of micro-batches each worker sends a single vector, as plain DDP does. Checked on the CPU; on CUDA
    equality is expected but was not checked.
    """
    _, workers = rank_and_workers(group)
    while len(parts) > 1 and (workers == 1 or len(parts) % 2 == 0):
        parts = pairwise(parts)
    if workers > 1:
        parts = _all_parts(torch.stack(parts), workers, group)
        while len(parts) > 1:
            parts = pairwise(parts)
    return parts[0]


def _all_parts(own: torch.Tensor, workers: int, group: Group) -> list[torch.Tensor]:
    everyone = own.new_empty(workers * own.shape[0], own.shape[1])
    dist.all_gather_single(everyone, own, group=group)
    return list(everyone)


def gathered(value: T, group: Group) -> list[T]:
    """Every worker's value, in the order of ranks."""
    _, workers = rank_and_workers(group)
    values = [value] * workers
    if workers > 1:
        dist.all_gather_object(values, value, group=group)
    return values
