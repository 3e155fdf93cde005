"""What is done with events: the log."""
