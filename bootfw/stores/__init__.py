"""Built-in lease stores."""
