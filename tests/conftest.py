"""What all tests share: one thread of torch each, and no test that a slow machine fails."""

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
