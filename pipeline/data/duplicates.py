"""Duplicate images, counted by an eight-byte fingerprint of each."""

import hashlib

import numpy as np

from pipeline.data.dataset import Duplicates


def fingerprints(images: np.ndarray) -> np.ndarray:
    """(N, C, H, W) uint8 -> (N,) uint64, equal for equal images, and for others once in 2^64 pairs."""
    digests = [hashlib.blake2b(image, digest_size=8).digest() for image in np.ascontiguousarray(images)]
    return np.frombuffer(b"".join(digests), np.uint64)


def count(train: np.ndarray, held_out: np.ndarray) -> Duplicates:
    """How many images of each split repeat an earlier one of it, and how many held-out ones are in train.

    Args:
        train, held_out: fingerprints, (n,) uint64 each, neither empty; sorted in place.
    """
    train.sort()
    held_out.sort()
    place = np.searchsorted(train, held_out).clip(max=len(train) - 1)
    return {
        "train": int((train[1:] == train[:-1]).sum()),
        "held_out": int((held_out[1:] == held_out[:-1]).sum()),
        "held_out_in_train": int((train[place] == held_out).sum()),
    }
