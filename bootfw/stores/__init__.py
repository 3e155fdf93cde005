"""What outlives the process: leases, reservations, and orders such as one-time boots."""
