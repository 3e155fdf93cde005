"""The files that are served, whatever protocol asks: whose they are, where they come from, how they are framed."""
