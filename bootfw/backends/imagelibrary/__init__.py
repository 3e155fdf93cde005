"""Images of operating systems in a directory: what they are, and the ``images`` backend."""
