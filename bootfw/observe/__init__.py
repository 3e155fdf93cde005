"""What is done with events: the log, metrics, traces and webhooks."""
