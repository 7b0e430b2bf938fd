"""Samples in fixed shards, in memory or on disk. No Ray here."""
