"""Samplers: one file a kind, with its settings, its levels, and what a search tries of it.

Each is a frozen dataclass below `pipeline.ncsn.sampler.SamplerSettings`. The file's name is its `kind`.
"""
