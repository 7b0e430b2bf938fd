"""What all tests share: one thread of torch each, and no test that a slow machine fails."""

import os

import hypothesis
import torch

os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's processes yield to all that runs beside them

torch.set_num_threads(1)
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
