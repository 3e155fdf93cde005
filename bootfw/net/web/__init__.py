"""HTTP boot: what a response is made of, and the certificate of HTTPS."""
