"""A load simulator: many machines that boot as real firmware does, against any boot server."""
