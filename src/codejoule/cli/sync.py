"""``codejoule sync``: uploads the runs that wait for a tracking server."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from codejoule.common.progress import pause
from codejoule.config import UserError, home
from codejoule.config.credentials import refuse_credentials
from codejoule.domain import visible

if TYPE_CHECKING:
    from codejoule.tracking import Uploaded


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "sync",
        help="upload runs that were kept here while the tracking server was away",
        description="Uploads the runs that wait in the outbox below the tracking folder to the "
        "server that they are for: each once and completely, however often this is called. A run "
        "leaves the outbox when the server has confirmed all of it. Exit code 0 if nothing waits "
        "any more but what is still under way, 1 if the server refused a run, 2 if it does not "
        "answer.",
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="only what waits for this server; default: for every server",
    )
    parser.add_argument(
        "--tracking-dir",
        metavar="DIR",
        type=Path,
        help="the runs' tracking.dir; default: mlruns below CODEJOULE_HOME or the current folder",
    )


def run(args: argparse.Namespace) -> int:
    """Upload, say what was done, and return the exit code. Raises `UserError` where a server does
    not answer; what waits for the others is uploaded first."""
    from codejoule.tracking import Outbox, upload

    refuse_credentials([("--tracking-uri", args.tracking_uri)])
    tracking = (args.tracking_dir or home() / "mlruns").expanduser().absolute()
    boxes = Outbox.below(tracking)
    if args.tracking_uri is not None:
        boxes = [box for box in boxes if box.server == args.tracking_uri.rstrip("/")]
    boxes = [box for box in boxes if box.all_waiting()]
    if not boxes:
        which = "" if args.tracking_uri is None else f" for {args.tracking_uri}"
        print(visible(f"Nothing waits in {tracking}{which}."))
        return 0
    code, lost = 0, []
    for box in boxes:
        try:
            done = upload(box)
        except UserError as error:
            lost.append(str(error))
            continue
        pause()
        print(visible(f"{box.server}: {_said(done)}"))
        for failure in done.failures:
            print(visible(f"FAILED {failure}"), file=sys.stderr)
            code = 1
    if lost:
        raise UserError("\n".join(lost))
    return code


def _said(done: "Uploaded") -> str:
    size = f"{done.files} files, {done.file_bytes / 2**20:.1f} MiB, {done.traces} traces sent"
    jobs = f"{done.runs} {'job' if done.runs == 1 else 'jobs'}"
    sweeps = f"{done.sweeps} {'sweep' if done.sweeps == 1 else 'sweeps'}"
    said = f"uploaded and confirmed {jobs} and {sweeps} ({size})"
    if done.under_way:
        said += f"; still under way: {', '.join(done.under_way)}"
    return f"{said}."
