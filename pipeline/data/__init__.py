"""Data sets: where they come from, their prepared form, and the order in which training sees them."""
