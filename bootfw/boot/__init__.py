"""Shared by TFTP, HTTP and DHCP: the resolver chain, the backends as one, generated files, clients."""
