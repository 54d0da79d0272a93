"""Cache backend ``shared`` for kappacore: memory shared by all processes of a machine."""
