"""The space that samples are judged in: features of images, and the Frechet distance between them."""
