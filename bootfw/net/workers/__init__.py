"""Processes that serve files beside the main one."""
