"""The built-in file backends (IBackend)."""
