"""DHCP logic: request value to reply value. Pure: no clock, no socket, no Twisted."""
