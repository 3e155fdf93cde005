"""The numbers of TFTP, as fbtftp names them."""

# RFC 1350 section 5, RFC 2347
OPCODE_RRQ = 1
OPCODE_WRQ = 2
OPCODE_DATA = 3
OPCODE_ACK = 4
OPCODE_ERROR = 5
OPCODE_OACK = 6

# RFC 1350 section 1
MODE_NETASCII = "netascii"
MODE_BINARY = "octet"

# RFC 1350 appendix, RFC 2347
ERR_UNDEFINED = 0
ERR_FILE_NOT_FOUND = 1
ERR_ACCESS_VIOLATION = 2
ERR_DISK_FULL = 3
ERR_ILLEGAL_OPERATION = 4
ERR_UNKNOWN_TRANSFER_ID = 5
ERR_FILE_EXISTS = 6
ERR_NO_SUCH_USER = 7
ERR_INVALID_OPTIONS = 8

MAX_BLOCK_NUMBER = 65535
"""The number on the wire after which 0 follows."""

DEFAULT_BLKSIZE = 512
"""Bytes of a block where nothing else is agreed (RFC 1350)."""

DATAPOINTS_INTERVAL_SECONDS = 60
"""How often the callback for the statistics of a server is called."""
