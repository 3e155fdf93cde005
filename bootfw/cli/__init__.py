"""The ``bootfw`` command: commands for operators, about a running server or its files."""
