"""The leases of a running server: given, written down, looked after."""
