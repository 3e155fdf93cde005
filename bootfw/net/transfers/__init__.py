"""TFTP transfers: a session between a peer and an open file, and what a request becomes one by."""
