"""A PostgreSQL of its own: one cluster in a folder, reached through a socket that is its account's
alone."""

import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codejoule.cli.server.account import Account
from codejoule.config import UserError

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin")
"""Where distributions put what they keep off the path."""
_READY_S = 60.0
_STOP_S = 60.0
_CONNECTIONS = 200
"""Each of MLflow's workers may open fifteen for the runs and fifteen for the logins."""


@contextmanager
def run_postgres(folder: Path, account: Account, databases: tuple[str, ...]) -> Iterator[Path]:
    """Run PostgreSQL on the data in `folder`, made where missing, with these databases. Yields the
    folder of its socket; stops it when left. Raises `UserError` where PostgreSQL is missing, is of
    another version than the data, or does not start."""
    cluster, log = folder / "postgres", folder / "postgres.log"
    programs = _programs(cluster)
    if not (cluster / "PG_VERSION").exists():
        _make(programs, cluster, account)
    # A socket's path has 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="codejoule-pg-") as place, log.open("ab") as said:
        sockets = Path(place)
        account.give(sockets)
        command = [
            programs / "postgres", "-D", cluster, "-k", sockets, "-c", "listen_addresses=",
            "-c", f"max_connections={_CONNECTIONS}",
        ]  # fmt: skip
        # SIGINT is its fast shutdown: sessions end, nothing is lost.
        process = account.start(command, log=said, last_signal=signal.SIGINT)
        try:
            _wait(programs, sockets, account, process, log)
            there = account.run(
                [programs / "psql", "-h", sockets, "-d", "postgres", "-Atc",
                 "SELECT datname FROM pg_database"],
                "list the databases",
            ).split()  # fmt: skip
            for name in databases:
                if name not in there:
                    account.run(
                        [programs / "createdb", "-h", sockets, name], f"make database {name}"
                    )
            yield sockets
        finally:
            _stop(process)


def address(sockets: Path, account: Account, database: str) -> str:
    """What SQLAlchemy calls a database (its plain ``postgresql://`` is another driver)."""
    return f"postgresql+psycopg://{account.name}@/{database}?host={sockets}"


def _programs(cluster: Path) -> Path:
    """The folder of PostgreSQL's programs, of the version that made the data."""
    file = cluster / "PG_VERSION"
    wanted = file.read_text(encoding="ascii").strip() if file.exists() else None
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    for place in _PLACES:
        root, *rest = Path(place).parts
        folders += sorted(Path(root).glob("/".join(rest)), key=_major, reverse=True)
    found = {_major(each): each for each in folders if (each / "postgres").exists()}
    if wanted is None and found:
        return next(iter(found.values()))
    if wanted is not None and int(wanted) in found:
        return found[int(wanted)]
    what = "PostgreSQL" if wanted is None else f"PostgreSQL {wanted}, which made {cluster},"
    package = "postgresql" if wanted is None else f"postgresql-{wanted}"
    raise UserError(
        f"{what} is not installed; install it (Debian, Ubuntu: apt-get install {package}; Fedora: "
        "dnf install postgresql-server; conda: conda install postgresql), or put its folder bin on "
        "the PATH"
    )


def _major(folder: Path) -> int:
    program = folder / "postgres"
    if not program.exists():
        return 0
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"(\d+)", said.stdout)
    return int(version[1]) if version else 0


def _make(programs: Path, cluster: Path, account: Account) -> None:
    """Make the cluster beside its place and move it there whole."""
    half = cluster.with_name("postgres.new")
    shutil.rmtree(half, ignore_errors=True)
    account.give(half)
    account.run(
        [programs / "initdb", "-D", half, "--auth=peer", "--encoding=UTF8", "--locale=C"],
        f"make a database cluster in {cluster}",
    )
    half.rename(cluster)


def _wait(
    programs: Path,
    sockets: Path,
    account: Account,
    process: "subprocess.Popen[bytes]",
    log: Path,
) -> None:
    command = [str(programs / "pg_isready"), "-q", "-h", str(sockets), "-U", account.name]
    end_s = time.monotonic() + _READY_S
    while subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode != 0:
        if process.poll() is not None or time.monotonic() > end_s:
            raise UserError(f"PostgreSQL does not start: {last_words(log)} ({log})")
        time.sleep(0.1)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def last_words(log: Path) -> str:
    """The last line that a process wrote which says anything."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
