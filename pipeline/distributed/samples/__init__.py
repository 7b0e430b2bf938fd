"""Samples and their scores, spread over threads or a cluster."""
