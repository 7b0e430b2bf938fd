"""Samplers: they need a score called as `score(x, sigma)` and nothing else."""
