"""What the real programs send and receive: bootinfoclient and bootinfo's reply code, tmcc against a stand-in.

Captured in November 2026 with those of the public Emulab tree. The clients are at 10.9.0.11, the server is 10.9.0.1.
"""

BOOTINFO_REQUEST = bytes.fromhex("010001").ljust(520, b"\0")
KEY = "0123456789abcdef0123456789abcdef"
BOOTINFO_KEYED = (bytes.fromhex("0100060000000000") + KEY.encode()).ljust(520, b"\0")

BOOTINFO_REPLIES = {
    "partition:2": bytes.fromhex("01000200000000000000010002"),
    "sysid:131": bytes.fromhex("01000200000000000000020083"),
    "multiboot:10.9.0.1:/tftpboot/netboot": bytes.fromhex("0100020000000000000003000a090001") + b"/tftpboot/netboot",
    "mfs:10.9.0.1:/tftpboot/frisbee": bytes.fromhex("010002000000000000000700") + b"10.9.0.1:/tftpboot/frisbee",
    "reboot": bytes.fromhex("0100020000000000000005"),
    "disk:0x80:1": bytes.fromhex("01000200000000000000090080000000") + bytes.fromhex("01"),
    "wait": bytes.fromhex("0100020000000000000004"),
    "partition:2 console=sio1": bytes.fromhex("01000200000000000100010002").ljust(272, b"\0") + b"console=sio1",
}
"""What a node is told -> the reply, without the zeros to its 520 bytes."""

BOOTINFO_NOTHING = bytes.fromhex("0100020001")
BOOTINFO_ORDERS = {
    "auto": bytes.fromhex("0100040000000000000006"),
    "partition:2": bytes.fromhex("01000400000000000000010002"),
}

TMCC = {
    b"VERSION=34 reboot ": b"",
    b"VERSION=34 status ": b"ALLOCATED=testbed/myexp NICKNAME=nodea\n",
    b"VERSION=34 ntpinfo ": b"SERVER=ntp1.example.net\n",
    b"VERSION=34 state ISUP ": b"",
    b"VERSION=34 ifconfig ": (
        b"INTERFACE IFACETYPE=em INET=10.1.1.2 MASK=255.255.255.0 MAC=001122334455 SPEED=100Mbps DUPLEX=full IFACE= "
        b"RTABID=0 LAN=lan0\n"
    ),
    b"VERSION=34 creator ": b"CREATOR=alice SWAPPER=alice\n",
    b"VERSION=34 loadinfo ": (
        b"ADDR= PART=1 PARTOS=FreeBSD SERVER=10.9.0.1 DISK=ad0 ZFILL=0 ACPI=unknown MBRVERS=1 ASF=unknown PREPARE=0 "
        b"NOCLFLUSH=unknown IMAGEID=testbed,testbed,FBSD\n"
    ),
    b"VERSION=34 bogus ": b"",
    b"VNODEID=pcvm1-1 VERSION=34 status ": b"ALLOCATED=testbed/myexp NICKNAME=nodeb\n",
    b"PRIVKEY=deadbeefdeadbeefdeadbeefdeadbeef VERSION=21 creator ": b"CREATOR=alice SWAPPER=alice\n",
    b"VERSION=34 IDKEY=abc123 status ": b"ALLOCATED=testbed/myexp NICKNAME=nodea\n",
    b"VERSION=34 bootlog line one\nline two\n": b"",
}
"""Request of tmcc -> reply. The stand-in gave the virtual node the nickname of its machine."""

HOST_FILES = {
    "pc1": """
mac = "52:54:00:00:00:01"
address = "10.9.0.11"

[emulab]
experiment = "testbed/myexp"
nickname = "nodea"
creator = "alice"
ntp-servers = ["ntp1.example.net"]
boot = "partition:2"
private-key = "deadbeefdeadbeefdeadbeefdeadbeef"
identity-key = "abc123"

[[emulab.interface]]
address = "10.1.1.2"
mask = "255.255.255.0"
mac = "00:11:22:33:44:55"
lan = "lan0"

[[emulab.load]]
image = "testbed,testbed,FBSD"
partition = 1
system = "FreeBSD"
""",
    "pcvm1-1": """
[emulab]
physical = "pc1"
experiment = "testbed/myexp"
nickname = "nodeb"
""",
    "pc2": """
mac = "52:54:00:00:00:02"
address = "10.9.0.12"

[emulab]
private-key = "0123456789abcdef0123456789abcdef"
""",
    "printer": """
mac = "52:54:00:00:00:09"
address = "10.9.0.19"
""",
}
"""Host files of a testbed to which these replies belong: an allocated node, a virtual one on it, and a free one."""
