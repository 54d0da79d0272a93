"""What a cache backend is, and the one in memory."""
