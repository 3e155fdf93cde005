"""Consumers of events: the log, metrics, traces and webhooks."""
