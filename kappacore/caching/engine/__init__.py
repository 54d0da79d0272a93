"""Each sample is read from its source once."""
