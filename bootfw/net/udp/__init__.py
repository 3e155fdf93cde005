"""Sockets, datagrams and what travels beside them: what the port of :mod:`bootfw.net.datagram` is made of."""
