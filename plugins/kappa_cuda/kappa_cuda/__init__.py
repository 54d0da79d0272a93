"""Device ``cuda`` for kappacore: batches gathered by the GPU from the memory of a cache."""
