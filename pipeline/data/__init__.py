"""Data sets: where they come from, their prepared form, and the order in which training sees them."""

from pipeline.data.catalogue import CATALOGUE
from pipeline.data.dataset import Dataset, open_dataset
from pipeline.data.order import batch_indices
from pipeline.data.preparation import prepare

__all__ = ["CATALOGUE", "Dataset", "batch_indices", "open_dataset", "prepare"]
