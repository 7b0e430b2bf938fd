"""How good samples are: a feature space, the distances in it, and one call that reports them all."""
