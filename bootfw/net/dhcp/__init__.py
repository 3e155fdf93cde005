"""DHCP listeners: proxy and server, IPv4 and IPv6."""
