"""Readers of data formats, a file each: the images of a source in its order, a block at a time.

A reader raises UserError that names each file or image that is missing, damaged or of another kind.
"""
