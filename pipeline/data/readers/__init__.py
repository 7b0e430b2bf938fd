"""One file per format: each hands on the images of a source in its own order, a block at a time."""
