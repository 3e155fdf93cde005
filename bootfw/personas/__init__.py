"""Client quirks as data, and the matcher."""
