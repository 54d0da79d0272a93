"""From an image file to a value: read it, shrink it, decode it."""
