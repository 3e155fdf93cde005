"""A bootfw store that keeps leases, reservations, one-time boots and boot attempts in PostgreSQL.

It imports nothing of bootfw but ``bootfw.api``.
"""

__version__ = "0.1.0"
