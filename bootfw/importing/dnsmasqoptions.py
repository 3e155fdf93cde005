"""The options of dnsmasq by name (dnsmasq(8), option.c and dhcp-common.c of dnsmasq 2.90)."""

from collections.abc import Mapping

from bootfw.importing.options import numbers


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


DNS = _names(
    "add-cpe-id add-mac add-subnet addn-hosts address alias all-servers auth-peer auth-sec-servers auth-server "
    "auth-soa auth-ttl auth-zone bogus-nxdomain bogus-priv caa-record cache-rr cache-size clear-on-reload cname "
    "connmark-allowlist connmark-allowlist-enable conntrack dhcp-fqdn dhcp-generate-names dhcp-ignore-names dhcp-ttl "
    "dns-forward-max dns-loop-detect dns-rr dnssec dnssec-check-unsigned dnssec-no-timecheck dnssec-timestamp "
    "do-0x20-encode domain-needed domain-suffix dynamic-host edns-packet-max expand-hosts fast-dns-retry filter-a "
    "filter-aaaa filter-rr filterwin2k host-record hostsdir ignore-address interface-name ipset local local-service "
    "local-ttl localise-queries localmx log-queries max-cache-ttl max-port max-tcp-connections max-ttl min-cache-ttl "
    "min-port mx-host mx-target naptr-record neg-ttl nftset no-0x20-encode no-hosts no-ident no-negcache no-poll "
    "no-resolv no-round-robin port port-limit proxy-dnssec ptr-record query-port read-hosts rebind-domain-ok "
    "rebind-localhost-ok resolv-file rev-server selfmx server servers-file srv-host stop-dns-rebind strict-order "
    "strip-mac strip-subnet synth-domain trust-anchor txt-record umbrella use-stale-cache "
)
"""Options about names only."""

NOT_NEEDED: Mapping[str, str] = {
    **dict.fromkeys(
        ("log-dhcp", "log-async", "log-debug", "quiet-dhcp", "quiet-dhcp6", "quiet-tftp"), "bootfw logs it"
    ),
    **dict.fromkeys(("bind-interfaces", "bind-dynamic"), "bootfw serves the interfaces that it is given only"),
    **dict.fromkeys(("user", "group"), "the unit of bootfw, or user in [bootfw], says so"),
    **dict.fromkeys(("keep-in-foreground", "no-daemon"), "bootfw run stays in the foreground"),
    **dict.fromkeys(("enable-dbus", "enable-ubus"), "bootfw has a control socket"),
    **dict.fromkeys(("version", "test"), "it serves nothing"),
    "quiet-ra": "bootfw sends no router advertisements",
    "log-facility": "bootfw logs to its standard output or the journal: [log]",
    "pid-file": "bootfw run has none",
    "no-ping": "the probes of bootfw take 0.2 s; probe-seconds = 0 in [dhcp] turns them off",
    "dhcp-leasefile": "bootfw leases import takes over the leases in it",
    "leasefile-ro": "bootfw has its own store",
    "dhcp-lease-max": "the pools limit the leases",
    "dhcp-no-override": "bootfw never puts options into the fields for the file and server names",
    "dhcp-sequential-ip": "bootfw gives the addresses of a pool in sequence",
    "dhcp-client-update": "bootfw changes no DNS",
    "dhcp-duid": "bootfw makes its own DUID",
    "tftp-no-fail": "bootfw starts without the directory",
    "tftp-max": "bootfw has no such limit",
    "tftp-single-port": 'the default: ports = "single" in [tftp]',
}
"""Options about what bootfw does anyway, or without an effect on clients -> why they are not needed."""

INSTEAD: Mapping[str, str] = {
    **dict.fromkeys(
        ("dhcp-script", "dhcp-luascript"),
        "bootfw runs no scripts: the webhook observer sends its events",
    ),
    **dict.fromkeys(("script-arp", "script-on-renewal", "dhcp-scriptuser"), "bootfw runs no scripts"),
    "enable-ra": "bootfw sends no router advertisements: use radvd or systemd-networkd, with the flag M",
    "ra-param": "bootfw sends no router advertisements: use radvd or systemd-networkd",
    "dhcp-relay": "bootfw is no relay: use dhcrelay or dhcp-helper",
    "dhcp-circuitid": "tags by relay information: by-client has circuit-id, for one circuit",
    "dhcp-remoteid": "bootfw has no condition on the remote id; by-client has circuit-id and relay",
    "dhcp-subscrid": "bootfw has no condition on the subscriber id; by-client has circuit-id and relay",
    "dhcp-name-match": "bootfw has no condition on the name that a client sends: use its MAC",
    "dhcp-reply-delay": "bootfw answers at once; for a second server that answers late, give it another pool",
    "dhcp-proxy": "bootfw does not answer in the place of another server behind a relay",
    "dhcp-alternate-port": "set ports in [dhcp]",
    **dict.fromkeys(("bridge-interface", "dhcp-bridge"), "set interfaces in [bootfw] to the bridge"),
    "shared-network": "write both subnets with the same shared-network",
    "read-ethers": "write the lines of /etc/ethers as [[dhcp.subnet.host]] with mac and address",
    **dict.fromkeys(("dhcp-optsfile", "dhcp-optsdir"), "write its options as dhcp-option, and import again"),
    "dhcp-hostsdir": "name its files as dhcp-hostsfile, and import again",
    "tftp-secure": "bootfw serves what its user can read; give the other files other permissions",
    "tftp-unique-root": "bootfw has no directory for each client; the template backend makes files for each machine",
    "dhcp-broadcast": "bootfw broadcasts where a client requests it",
    "dhcp-pxe-vendor": "bootfw knows PXE clients by the vendor class PXEClient; others need a [[persona]]",
    "dhcp-ignore-clid": 'identify-by = "hardware", the default, ignores the client id of all clients',
    "conf-script": "run it, and import what it prints",
    "leasequery": "bootfw does not answer DHCPLEASEQUERY",
}
"""Options that bootfw has no counterpart for -> what to do instead."""

ARCHITECTURES: Mapping[str, int] = numbers(
    "x86pc=0 pc98=1 ia64_efi=2 alpha=3 arc_x86=4 intel_lean_client=5 ia32_efi=6 x86-64_efi=7 xscale_efi=8 bc_efi=9 "
    "arm32_efi=10 arm64_efi=11"
)
"""Kinds of clients of pxe-service, in lower case -> code of option 93."""

OPTIONS: Mapping[str, int] = numbers(
    "netmask=1 time-offset=2 router=3 dns-server=6 log-server=7 lpr-server=9 hostname=12 boot-file-size=13 "
    "domain-name=15 swap-server=16 root-path=17 extension-path=18 ip-forward-enable=19 non-local-source-routing=20 "
    "policy-filter=21 max-datagram-reassembly=22 default-ttl=23 mtu=26 all-subnets-local=27 broadcast=28 "
    "router-discovery=31 router-solicitation=32 static-route=33 trailer-encapsulation=34 arp-timeout=35 "
    "ethernet-encap=36 tcp-ttl=37 tcp-keepalive=38 nis-domain=40 nis-server=41 ntp-server=42 vendor-encap=43 "
    "netbios-ns=44 netbios-dd=45 netbios-nodetype=46 netbios-scope=47 x-windows-fs=48 x-windows-dm=49 "
    "requested-address=50 lease-time=51 server-identifier=54 T1=58 T2=59 vendor-class=60 client-id=61 "
    "nis+-domain=64 nis+-server=65 tftp-server=66 bootfile-name=67 mobile-ip-home=68 smtp-server=69 pop3-server=70 "
    "nntp-server=71 irc-server=74 user-class=77 rapid-commit=80 FQDN=81 agent-info=82 client-arch=93 "
    "client-interface-id=94 client-machine-id=97 posix-timezone=100 tzdb-timezone=101 ipv6-only=108 "
    "subnet-select=118 domain-search=119 sip-server=120 classless-static-route=121 vendor-id-encap=125 "
    "tftp-server-address=150 server-ip-address=255"
)
"""Names of DHCP options -> code; 255 is the address of the TFTP server in the header (siaddr)."""

OPTIONS6: Mapping[str, int] = numbers(
    "dns-server=23 domain-search=24 nis-server=27 nis-domain=29 sntp-server=31 information-refresh-time=32 FQDN=39 "
    "posix-timezone=41 tzdb-timezone=42 ntp-server=56 bootfile-url=59 bootfile-param=60"
)
"""Names of DHCPv6 options -> code."""
