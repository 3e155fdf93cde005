"""HTTP boot: site, downloads, TLS."""
