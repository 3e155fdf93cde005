"""What TFTP, HTTP and DHCP share: the resolver chain, the layered backend, generated files, known clients."""
