"""The configuration: TOML and environment variables are read, checked, and converted to Settings and plugins."""
