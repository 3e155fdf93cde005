"""Sockets, datagrams and what travels beside them: what the port of :mod:`bootfw.net.udp.port` is made of."""
