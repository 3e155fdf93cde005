"""The configuration: from TOML to values."""
