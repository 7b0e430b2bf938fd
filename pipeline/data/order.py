"""Order of the training images: a function of the position, so that no state is kept.

Numbers come from the raw stream of PCG64, which NumPy guarantees not to change, unlike the
methods of its generators.
"""

from functools import lru_cache

import numpy as np

EPOCH, HOLD_OUT = 1, 2
"""What a permutation is for; keeps equal seeds of different uses apart."""


def permutation(count: int, purpose: int, *key: int) -> np.ndarray:
    """Permutation of 0 to count - 1 that depends on (count, purpose, key) alone; int64 (count,)."""
    raw = np.random.PCG64([purpose, *key]).random_raw(count)
    return np.argsort(np.asarray(raw, np.uint64), kind="stable").astype(np.int64, copy=False)


def batch_indices(seed: int, step: int, batch_size: int, num_examples: int) -> np.ndarray:
    """Images of the batch of step `step` (from 0), of walking through one permutation after another.

    Nothing is dropped: a batch may end one epoch and begin the next. The `num_examples` positions of an
    epoch hold each image once.

    Returns:
        int64 (batch_size,), indices below num_examples.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, places = np.divmod(positions, num_examples)
    indices = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        chosen = epochs == epoch
        indices[chosen] = _epoch(seed, int(epoch), num_examples)[places[chosen]]
    return indices


@lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    order = permutation(num_examples, EPOCH, seed, epoch)
    order.setflags(write=False)
    return order
