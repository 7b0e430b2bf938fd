"""Readers of data formats, a file each: the images of a source in its order, a block at a time."""
