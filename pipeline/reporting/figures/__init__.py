"""Figures of the report: what each shows, and how all of them look."""
