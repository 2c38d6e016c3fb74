"""A real PostgreSQL for tests: a cluster of its own in a folder of its own, on a free port, from the machine's binaries."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from brokers import wait_until

COVERED: list[str] = []
"""What the tests have run against."""

OWNER = "plaudit"
PASSWORD = "words-of-their-own"

_AS_ROOT = "postgres"
"""PostgreSQL refuses to run as root; Debian's package makes this user."""


def binaries() -> Path | None:
    """Where ``initdb`` and ``postgres`` are: Debian keeps them out of the PATH, a folder for each version."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = versions[-1] if versions else shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


class PostgresServer:
    """Its owner is called ``plaudit``, as in docker-compose.yml, and must give a password. Nothing about fsync is changed."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))  # pytest's folders are closed to the user it may have to run as
        self._user = pwd.getpwnam(_AS_ROOT) if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._names = (f"test{number}" for number in itertools.count(1))
        self._process: subprocess.Popen[bytes] | None = None
        password = self._folder / "password"
        password.write_text(PASSWORD)
        flags = ["-D", str(self._folder / "data"), "-U", OWNER, "--auth=scram-sha-256", f"--pwfile={password}", "--no-sync"]
        done = self._popen("initdb", *flags, "-E", "UTF8", "--locale=C.UTF-8")
        said, _ = done.communicate(timeout=60)
        assert done.returncode == 0, said.decode()
        self.start()

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://{OWNER}:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def create(self, name: str | None = None) -> str:
        """The URL of a new, empty database."""
        name = name or next(self._names)
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def start(self) -> None:
        """Does nothing while it runs."""
        if self._process is not None:
            return
        flags = ["-D", str(self._folder / "data"), "-k", str(self._folder), "-h", "127.0.0.1", "-p", str(self.port)]
        with (self._folder / "log").open("ab") as log:
            self._process = self._popen("postgres", *flags, output=log)
        wait_until(self._answers, f"PostgreSQL, see {self._folder / 'log'}", 30)

    def stop(self) -> None:
        """At once, as if the machine were gone; what is committed is there again after `start`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """Every process of it hangs: connections stay open, and nobody answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        if self._process is not None:
            self.thaw()
        self.stop()
        shutil.rmtree(self._folder)

    def _signal_all(self, number: signal.Signals) -> None:
        """Children of the server lead process groups of their own."""
        assert self._process is not None
        parent = self._process.pid
        for pid in (parent, *map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())):
            os.kill(pid, number)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            psycopg.connect(self.url(), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _popen(self, program: str, *flags: str, output: object = subprocess.PIPE) -> subprocess.Popen[bytes]:
        user = {} if self._user is None else {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        pipes = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
        command = [str(self.home / program), *flags]
        return subprocess.Popen(command, cwd=self._folder, **pipes, **user)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="session")
def postgres(require: Callable[[str, str], None]) -> Iterator[PostgresServer]:
    """One server for all tests; each makes a database of its own. Who stops it starts it again."""
    home = binaries()
    if home is None:
        require("postgres", "PostgreSQL is not installed (Debian: apt-get install postgresql)")
    assert home is not None
    if os.getuid() == 0 and _AS_ROOT not in {user.pw_name for user in pwd.getpwall()}:
        require("postgres", f"PostgreSQL does not run as root, and there is no user {_AS_ROOT}")
    server = PostgresServer(home)
    COVERED.append(f"PostgreSQL {home.parent.name}")
    yield server
    server.close()
