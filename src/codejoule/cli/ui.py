"""``codejoule ui``: MLflow's own pages of a tracking store."""

import argparse
import socket
import subprocess
import sys
from pathlib import Path

from codejoule.config import UserError, default_store
from codejoule.config.credentials import refuse_credentials
from codejoule.domain import visible

PORT = 5000
_MORE_PORTS = 50
_HOST = "127.0.0.1"


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "ui",
        help="show the runs in MLflow's own pages",
        description="Serves MLflow's pages of a tracking store on this machine until it is "
        "interrupted. A port that is in use is replaced by the next free one.",
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=int,
        default=PORT,
        help="first port to try; default: %(default)s",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="sqlite:///PATH/mlflow.db; default: mlruns/mlflow.db below CODEJOULE_HOME or the "
        "current folder",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted; the exit code is MLflow's. Raises `UserError` where there is no such
    store, or no free port."""
    from codejoule.analysis import MAKE_RUNS

    refuse_credentials([("--tracking-uri", args.tracking_uri)])
    uri = args.tracking_uri or default_store()
    if uri.startswith(("http://", "https://")):
        raise UserError(f"--tracking-uri {uri}: this server shows its pages itself; open {uri}")
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UserError(f"there are no runs yet: {uri} does not exist. {MAKE_RUNS}")
    port = _free_port(args.port)
    if port != args.port:
        print(f"Port {args.port} is in use; taking {port}.")
    print(visible(f"MLflow shows {uri} at http://{_HOST}:{port} (Ctrl-C ends it)"), flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    return subprocess.run([*command, "--host", _HOST, "--port", str(port)], check=False).returncode


def _free_port(first: int) -> int:
    """`first`, or the next port that nobody listens on."""
    if not 0 < first < 2**16:
        raise UserError(f"--port {first}: must lie between 1 and 65535")
    last = min(first + _MORE_PORTS, 2**16 - 1)
    for port in range(first, last + 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return port
    raise UserError(f"--port {first}: no port from {first} to {last} is free; name another")
