"""Report of a run: the table, the figures, the cards and the page."""
