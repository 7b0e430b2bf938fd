"""What all tests share: one thread of torch each, so that two cores are not fought over."""

import torch

torch.set_num_threads(1)
