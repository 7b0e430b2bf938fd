"""A search over short trials: Optuna proposes, successive halving stops, Ray Tune runs.

A trial is a plain generator `trial(settings, **shared)` that yields its metrics once at every rung; it knows
nothing of Ray. What is tried is decided by `decisions` alone, in a fixed order; `over_ray` has Ray Tune run
the trials over a cluster, `here` runs them in this process, with the same records. See docs/tuning.md.
"""

from pipeline.search.here import search_here
from pipeline.search.kept import Kept
from pipeline.search.run import resources, search
from pipeline.search.space import Budget, Choice, Range, Space, Trial

__all__ = ["Budget", "Choice", "Kept", "Range", "Space", "Trial", "resources", "search", "search_here"]
