"""A load simulator: machines that boot as real firmware does, in numbers, against any boot server."""
