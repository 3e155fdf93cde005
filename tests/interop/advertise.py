"""A router that advertises itself each second, and does nothing else: ``python advertise.py INTERFACE PREFIX FLAGS``.

FLAGS are of the letters M (addresses by DHCPv6), O (the rest by DHCPv6) and A (addresses made of the prefix). dnsmasq
sets M and O only where it is the DHCPv6 server too.
"""

import sys

from scapy.arch import in6_getifaddr
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptPrefixInfo, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import Ether
from scapy.sendrecv import sendp

interface, prefix, flags = sys.argv[1:]
with open(f"/sys/class/net/{interface}/address") as file:
    mac = file.read().strip()
link_local = next(address for address, scope, name in in6_getifaddr() if name == interface and scope == 0x20)
advertisement = (
    Ether(src=mac, dst="33:33:00:00:00:01")
    / IPv6(src=link_local, dst="ff02::1", hlim=255)
    / ICMPv6ND_RA(M="M" in flags, O="O" in flags, routerlifetime=1800)
    / ICMPv6NDOptPrefixInfo(prefix=prefix, prefixlen=64, L=1, A="A" in flags)
    / ICMPv6NDOptSrcLLAddr(lladdr=mac)
)
sendp(advertisement, iface=interface, loop=1, inter=1, verbose=False)
