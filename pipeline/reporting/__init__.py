"""What a run shows of itself: the table, the figures, the model card and the page that holds them."""
