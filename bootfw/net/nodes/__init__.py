"""What the nodes of a cluster, which share a store, tell each other."""
