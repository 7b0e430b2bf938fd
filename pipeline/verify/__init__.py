"""Whether each row of a written table still stands: `python -m pipeline.verify reports/table.json`."""
