"""What bootfw reads from Linux, and sets there."""
