"""How a server is reached: one, the master that sentinels name, or the nodes of a cluster."""
