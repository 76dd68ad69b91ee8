"""A Postgres server of our own, on this machine, gone afterwards."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class PostgresServer:
    """A running server without password, which only this machine reaches."""

    port: int

    def address(self, database: str) -> str:
        """User, host and database, as they follow ``postgresql://`` in a URL."""
        return f"tft@127.0.0.1:{self.port}/{database}"


@contextmanager
def postgres_server(*databases: str) -> Iterator[PostgresServer]:
    """A server with these databases, empty; the test is skipped where none can be had."""
    pytest.importorskip("psycopg2", reason="needs psycopg2: pip install '.[postgres]'")
    programs = _programs()
    if programs is None:
        pytest.skip("needs a Postgres server: apt-get install postgresql")
    # not in pytest's own folder, which nobody but its owner may enter
    with tempfile.TemporaryDirectory(prefix="tft-postgres-") as folder:
        yield from _served(programs, Path(folder), databases)


def _programs() -> Path | None:
    """Directory of the server's programs, wherever a distribution puts them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    named = shutil.which("initdb")
    return found[-1].parent if found else Path(named).parent if named else None


def _served(programs: Path, folder: Path, databases: tuple[str, ...]) -> Iterator[PostgresServer]:
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = folder / "data"

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [*as_user, str(programs / program), *arguments],
            check=True, cwd=folder, stdout=subprocess.DEVNULL, env={"PATH": "/usr/bin:/bin"},
        )  # fmt: skip

    call("initdb", "-D", str(data), "-U", "tft", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off -c max_connections=60"
    call("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start")
    try:
        for database in databases:
            call("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "tft", database)
        yield PostgresServer(port)
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
