"""Which files there are, and their classes: by a scan or an index."""
