"""Measures of samples: a feature space, distances in it, and the evaluation of a row."""
