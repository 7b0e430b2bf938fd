"""Figures of the report and their style; a file that is missing or damaged raises UserError with its path."""
