"""What outlives the process: leases, reservations and one-time boots."""
