"""What images of operating systems are, and how they are booted over the network: ``images.toml``."""
