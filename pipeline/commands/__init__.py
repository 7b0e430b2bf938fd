"""Commands next to the stages, each run as `python -m pipeline.commands.NAME`."""
