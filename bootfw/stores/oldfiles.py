"""Imports the state files of earlier versions: one with leases, one with one-time boots."""

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
"""Name of the old file with leases, in the state directory."""

NEXT_BOOTS = "next-boot.sqlite"
"""Name of the old file with one-time boots, in the state directory."""

_NEXT_BOOTS_APPLICATION = 0x62667732
"""SQLite's application id of the old file with one-time boots: "bfw2"."""

SUFFIX = ".imported"
"""Suffix of a file that was imported."""

_NEWER = """
INSERT OR REPLACE INTO main.{table} SELECT theirs.* FROM old.{table} AS theirs
LEFT JOIN main.{table} AS ours ON ours.address = theirs.address
WHERE ours.address IS NULL OR theirs.granted >= ours.granted
"""

# Without "position": it is the order in which the rows are appended to those that are there.
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
"""The statements that import the tables of each schema version, from version 1 on."""


def import_old(db: Connection, old: Path) -> Path:
    """Import an old file in one transaction, and rename it.

    A process that is killed between import and rename imports the file again at its next start, which changes nothing:
    the later lease of an address wins, and other rows that exist are skipped.

    :param db: the connection of the open state file.
    :return: the new name of the old file.
    :raise StateError: the file can't be read, is damaged, or is open in another process; it is not changed.
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
