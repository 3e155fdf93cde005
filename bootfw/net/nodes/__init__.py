"""Announcements between the nodes of a cluster, which share a store, and what a node does with them."""
