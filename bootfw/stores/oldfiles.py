"""The files of earlier versions, one for leases and one for next boots, imported into the state file."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from sqlite3 import Connection

from bootfw.stores.statefile import (
    APPLICATION,
    VERSION,
    as_state_errors,
    check_database,
    damage_error,
    sync_directory,
    transaction,
)

LEASES = "leases.sqlite"
"""The name, in the state directory, of the file that had the leases."""

NEXT_BOOTS = "next-boot.sqlite"
"""The name, in the state directory, of the file that had the one-time boots."""

_NEXT_BOOTS_APPLICATION = 0x62667732

SUFFIX = ".imported"
"""Added to the name of a file that was imported."""

_NEWER = """
INSERT OR REPLACE INTO main.{table} SELECT theirs.* FROM old.{table} AS theirs
LEFT JOIN main.{table} AS ours ON ours.address = theirs.address
WHERE ours.address IS NULL OR theirs.granted >= ours.granted
"""

_RESERVATION = "address, mac, client_id, uuid, circuit_id, hostname, options"

_RESERVATIONS = f"""
INSERT INTO main.reservation ({_RESERVATION}) SELECT {_RESERVATION} FROM old.reservation
WHERE ({_RESERVATION}) NOT IN (SELECT {_RESERVATION} FROM main.reservation) ORDER BY position
"""

_STATEMENTS: Sequence[Sequence[str]] = (
    (_NEWER.format(table="lease"), _RESERVATIONS),
    (_NEWER.format(table="lease6"),),
    ("INSERT OR REPLACE INTO main.machine_order SELECT * FROM old.machine_order",),
)
"""What to import from the tables that came with each schema version, 1 the first."""


def import_old(db: Connection, old: Path) -> Path:
    """Import an old file in one transaction, and rename it.

    A process that is killed between the two imports the file once more at its next start. That changes nothing: of two
    leases for an address the later one counts, and other entries that exist are skipped.

    :param db: the connection of the open state file.
    :return: the new name of the old file.
    :raise StateError: it can't be read, is damaged, or another process uses it; it stays as it was.
    """
    with as_state_errors(old):
        db.execute("ATTACH ? AS old", (os.fspath(old),))
        try:
            (application,) = db.execute("PRAGMA old.application_id").fetchone()
            (version,) = db.execute("PRAGMA old.user_version").fetchone()
            check_database(old, db, "old")
            if application == APPLICATION and 0 < version <= VERSION:
                with transaction(db):
                    for statement in (each for level in _STATEMENTS[:version] for each in level):
                        db.execute(statement)
            elif (application, version) == (_NEXT_BOOTS_APPLICATION, 1):
                rows = db.execute("SELECT mac, file, ordered FROM old.one_shot").fetchall()
                orders = [(mac, json.dumps({"file": file, "ordered": ordered})) for mac, file, ordered in rows]
                with transaction(db):
                    db.executemany("INSERT OR REPLACE INTO main.machine_order VALUES ('next-boot', ?, ?)", orders)
            else:
                raise damage_error(old, "it is not a file of an earlier version of bootfw")
        finally:
            db.execute("DETACH old")
        renamed = old.with_name(old.name + SUFFIX)
        os.rename(old, renamed)
        sync_directory(old.parent)
    return renamed
