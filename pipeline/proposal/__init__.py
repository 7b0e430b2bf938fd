"""Proposal of a preset for data that nobody has looked at: what is seen, what follows from it, how long it takes."""
