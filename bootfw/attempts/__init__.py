"""One record for each boot of a machine: what happened, how it ended, and the likely cause when it failed."""
