"""Noise Conditional Score Networks as a distributed, tracked, cached pipeline."""
