"""MLflow's database in a local file: there is a whole one or none, whenever the process that makes it is killed.

MLflow makes a database by dozens of migrations, which take seconds and commit one by one. It cannot open one whose
migrations were cut short. So a database is made under another name, and gets its own name when it is whole.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

SQLITE = "sqlite:///"
FIRST = frozenset({"experiments", "runs"})  # the migrations begin with these tables, and never drop both
WRITTEN = frozenset({"alembic_version", "workspaces"})  # tables into which the migrations themselves write rows
BESIDE = ("-journal", "-wal", "-shm")  # what sqlite keeps next to a database while it writes


def ensure(database: Path, artifacts: str) -> None:
    """Make the database unless there is a whole one. The caller keeps other processes from doing so at once.

    `artifacts` is the URI below which MLflow's default experiment stores files.
    """
    if database.exists() and not half_made(database):
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = database.with_name(f"{database.name}.partial")
    partial.unlink(missing_ok=True)
    _remove_beside(partial)
    SqlAlchemyStore(f"{SQLITE}{partial}", artifacts).engine.dispose()
    _remove_beside(database)  # sqlite would apply a journal without its database to the new one
    partial.replace(database)


def half_made(database: Path) -> bool:
    """Whether MLflow's migrations ended early in this file: it has no table, or MLflow's, and in them no row.

    A whole database has the default experiment. What is no database, or is locked, counts as whole: MLflow tells.
    """
    try:
        with closing(sqlite3.connect(database)) as connection:  # undoes what a killed process did not commit
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            tables = {name for (name,) in names}
            if tables and not tables & FIRST:
                return False
            return not any(
                connection.execute(f'SELECT 1 FROM "{table}" LIMIT 1').fetchone() for table in tables - WRITTEN
            )
    except sqlite3.DatabaseError:
        return False


def _remove_beside(database: Path) -> None:
    for ending in BESIDE:
        database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
