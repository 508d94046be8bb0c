"""The tables of the log, and how older stores are brought to them."""

import sqlite3

import sqlite_utils
from sqlite_utils.migrations import Migrations

from tidelog.storage.connection import LOG
from tidelog.storage.log.definitions import MAC_TABLES, TABLES, TILE_TABLES

_log = Migrations("tidelog-log")


@_log()
def m001_tables(db: sqlite_utils.Database) -> None:
    """See `TABLES`."""
    for statement in TABLES:
        db.execute(statement)


@_log()
def m002_tile_indexes(db: sqlite_utils.Database) -> None:
    """See `TILE_TABLES`."""
    for statement in TILE_TABLES:
        db.execute(statement)


@_log()
def m003_tile_macs(db: sqlite_utils.Database) -> None:
    """See `MAC_TABLES`."""
    for statement in MAC_TABLES:
        db.execute(statement)


def migrate(connection: sqlite3.Connection) -> None:
    """Brings the tables of an empty or older store to those of this release; all of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        _log.apply(sqlite_utils.Database(connection))
        connection.execute(f"PRAGMA application_id = {LOG.application}")
        connection.execute(f"PRAGMA user_version = {LOG.version}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
