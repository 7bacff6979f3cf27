"""``codejoule server``: an MLflow server for a team, on PostgreSQL, with logins."""

import argparse
import fcntl
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from codejoule.cli.server.account import Account
from codejoule.cli.server.postgres import address, last_words, run_postgres
from codejoule.common.progress import doing, pause
from codejoule.config import UserError, home, write_whole
from codejoule.config.extras import how_to_install
from codejoule.domain import visible

PORT = 5000
_LIBRARIES = ("psycopg", "flask_wtf")
_READY_S = 180.0
_STOP_S = 20.0
_ADMIN = "admin"
_PERMISSIONS = ("READ", "EDIT", "MANAGE", "NO_PERMISSIONS")
_LOGINS = """\
# Made by codejoule server at each start.
[mlflow]
default_permission = {permission}
database_uri = {database}
admin_username = {admin}
# PBKDF2 for every request is most of the time of a small one.
auth_cache_ttl_seconds = 60
"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "server",
        help="start an MLflow server for a team: PostgreSQL, served artifacts, logins",
        description="Starts PostgreSQL and an MLflow server on it, and runs until it is "
        "interrupted. All data lie in one folder; started again there, it goes on with them. "
        "Everyone logs in; artifacts go through the server. As root, both run under another "
        "account. Needs PostgreSQL's programs and the extra server.",
    )
    parser.add_argument(
        "--dir",
        metavar="DIR",
        type=Path,
        help="folder of all data; default: mlflow-server below CODEJOULE_HOME or the current "
        "folder",
    )
    parser.add_argument(
        "--host",
        metavar="HOST",
        default="127.0.0.1",
        help="interface to listen on, 0.0.0.0 for all; default: %(default)s",
    )
    parser.add_argument("--port", metavar="N", type=int, default=PORT, help="default: %(default)s")
    parser.add_argument(
        "--allowed-host",
        metavar="NAME",
        action="append",
        default=[],
        help="name by which machines reach the server (any number of times); localhost and private "
        "addresses are allowed without it, all others are refused",
    )
    parser.add_argument(
        "--permission",
        choices=_PERMISSIONS,
        default="EDIT",
        help="what everyone may do with experiments of others; default: %(default)s, so that a "
        "team records in one",
    )
    parser.add_argument(
        "--workers", metavar="N", type=int, default=4, help="processes of MLflow; default: 4"
    )
    parser.add_argument(
        "--user",
        metavar="NAME",
        help="account to run under when started by root; default: postgres, or nobody",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted; exit code 0. Raises `UserError` where something is missing, or does
    not start."""
    for library in _LIBRARIES:
        if find_spec(library) is None:
            raise UserError(f"codejoule server needs {library}: {how_to_install(library)}")
    account = Account.find(args.user)
    folder = (args.dir or home() / "mlflow-server").expanduser().absolute()
    _refuse_port_in_use(args.host, args.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _alone(folder, account):
        doing("starting PostgreSQL")
        with run_postgres(folder, account, ("mlflow", "logins")) as sockets:
            doing("starting MLflow")
            with _mlflow(args, folder, account, sockets) as process:
                pause()
                print(visible(_told(args, folder, account)), flush=True)
                try:
                    code = process.wait()
                except KeyboardInterrupt:
                    print("Stopping.", flush=True)
                    return 0
                raise UserError(
                    f"MLflow ended with exit code {code}: {last_words(folder / 'mlflow.log')}"
                )


@contextmanager
def _alone(folder: Path, account: Account) -> Iterator[None]:
    try:
        account.give(folder)
    except OSError as error:
        raise UserError(
            f"--dir {folder}: cannot be made ({error.strerror}); choose another folder"
        ) from error
    if account.is_other:
        # Of the folders above, too, some may be closed to it, such as /root.
        account.run(["test", "-w", folder], f"write to {folder} (choose another with --dir)")
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--dir {folder}: a server runs on these data already; stop it, or choose another "
                "folder"
            ) from error
        yield


def _refuse_port_in_use(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            pass
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error})") from error


def _secret(file: Path, account: Account) -> str:
    """The secret in a file, made where missing."""
    if not file.exists():
        write_whole(file, secrets.token_urlsafe(24))
        file.chmod(0o600)
        if account.is_other:
            os.chown(file, account.uid, account.gid)
    return file.read_text(encoding="utf-8").strip()


@contextmanager
def _mlflow(
    args: argparse.Namespace, folder: Path, account: Account, sockets: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    from mlflow.server.security_utils import get_default_allowed_hosts

    logins = folder / "logins.ini"
    write_whole(
        logins,
        _LOGINS.format(
            permission=args.permission, database=address(sockets, account, "logins"), admin=_ADMIN
        ),
    )
    if account.is_other:
        os.chown(logins, account.uid, account.gid)
    account.give(folder / "artifacts")
    env = {
        **{key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")},
        "HOME": str(folder),
        "MLFLOW_AUTH_CONFIG_PATH": str(logins),
        "MLFLOW_AUTH_ADMIN_PASSWORD": _secret(folder / "admin-password", account),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": _secret(folder / "session-secret", account),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = [
        sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth",
        "--backend-store-uri", address(sockets, account, "mlflow"),
        "--serve-artifacts", "--artifacts-destination", (folder / "artifacts").as_uri(),
        "--host", args.host, "--port", str(args.port), "--workers", str(args.workers),
    ]  # fmt: skip
    if args.allowed_host:
        # What is named replaces MLflow's own list (3.17), and a port is part of a name.
        names = [each for name in args.allowed_host for each in (name, f"{name}:{args.port}")]
        command += ["--allowed-hosts", ",".join([*get_default_allowed_hosts(), *names])]
    log = folder / "mlflow.log"
    with log.open("ab") as said:
        process = account.start(command, log=said, env=env, last_signal=signal.SIGTERM)
        try:
            _wait(args, process, log)
            yield process
        finally:
            _stop(process)


def _wait(args: argparse.Namespace, process: "subprocess.Popen[bytes]", log: Path) -> None:
    host = "127.0.0.1" if args.host in ("0.0.0.0", "::") else args.host
    end_s = time.monotonic() + _READY_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:{args.port}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > end_s:
                raise UserError(f"MLflow does not start: {last_words(log)} ({log})") from None
        time.sleep(0.2)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Its workers are in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_STOP_S)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _told(args: argparse.Namespace, folder: Path, account: Account) -> str:
    name = (args.allowed_host or [socket.gethostname()])[0]
    host = name if args.host in ("0.0.0.0", "::") else args.host
    uri = f"http://{host}:{args.port}"
    password = shlex.quote(str(folder / "admin-password"))
    return (
        f"MLflow serves {uri} (Ctrl-C stops it). To record there, on any machine:\n"
        f"  export MLFLOW_TRACKING_URI={uri}\n"
        f"  export MLFLOW_TRACKING_USERNAME={_ADMIN}\n"
        f'  export MLFLOW_TRACKING_PASSWORD="$(cat {password})"\n'
        "  codejoule run -m tracking=server ...\n"
        f"{uri}/signup makes more logins, for {_ADMIN}. All data lie in {folder} "
        f"(account {account.name})."
    )
