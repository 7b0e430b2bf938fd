"""The tests: a package, so that torch-fidelity's own `tests` on the path is not taken for it."""
