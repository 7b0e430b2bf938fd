"""Commands beside the stages, each run as `python -m pipeline.commands.NAME`."""
