"""Cache backend ``lmdb`` for kappacore: samples in one file on a local disk."""
