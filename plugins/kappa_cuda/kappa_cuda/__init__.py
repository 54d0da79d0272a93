"""Device ``cuda`` for kappacore: batches gathered by the GPU from the memory of a cache."""

__version__ = "0.1.0"
