"""The core: noise ladders, losses, networks and exact scores, on torch and numpy alone.

A score model is anything called as `score(x, sigma)`, see `pipeline.ncsn.score.Score`.
"""
