"""What TFTP, HTTP and DHCP share: the resolver chain, the backends as one, generated files, clients."""
