"""``codejoule run`` and ``python src/main.py``: runs Hydra's jobs and turns whatever happens into
one message and an exit code."""

import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from codejoule.cli import QUIET
from codejoule.common.display import displayed
from codejoule.config import UserError, conf_folder, settle_home
from codejoule.config.compose import register_schemas
from codejoule.config.credentials import refuse_credentials_in
from codejoule.config.explain import explain
from codejoule.domain import visible
from codejoule.experiment import stopping

if TYPE_CHECKING:
    from omegaconf import DictConfig

_FULL_ERROR = "HYDRA_FULL_ERROR"

# Here, since a launcher's processes import this module with the job.
register_schemas()


def job(config: "DictConfig") -> object:
    """Run one job of a (possibly one-job) sweep, and return what it shall be optimised for."""
    from codejoule.cli.summary import print_summary
    from codejoule.experiment.run import run_job
    from codejoule.experiment.sweep import Summary

    # A launcher's process has no handlers yet.
    with stopping.listening():
        found = run_job(config)
    if not isinstance(found, Summary):
        return found
    print_summary(found)
    return None


def launch(arguments: Sequence[str]) -> int:
    """Run Hydra with these arguments, flags and overrides, and return the process's exit code. A
    wrong configuration, or something outside that the user can put right, is one message on stderr
    and exit code 1; ``HYDRA_FULL_ERROR=1`` brings the traceback back. After a sweep the comparison
    table and the failed jobs are printed, and any failed job makes the exit code 1. Ctrl-C, and
    SIGTERM (Slurm, docker stop, kill), end it with exit code 130: the first time what is under way
    is finished and kept, the second time at once."""
    with stopping.listening():
        try:
            return _launch(arguments)
        except KeyboardInterrupt:  # while it summed up
            return stopping.EXIT_CODE


def _launch(arguments: Sequence[str]) -> int:
    import hydra

    # A log file that cannot be written is no reason for a traceback at each line of it.
    logging.raiseExceptions = False
    traceback_wanted = os.environ.get(_FULL_ERROR) == "1"
    # Hydra then raises what it would otherwise print in words of its own.
    os.environ[_FULL_ERROR] = "1"
    settle_home()
    arguments = ["progress=none" if text == QUIET else text for text in arguments]
    sys.argv[1:] = arguments
    main = hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")(job)
    code, interrupted, failure = 0, False, ""
    with displayed() as display:
        try:
            refuse_credentials_in(arguments)
            main()
        except BrokenPipeError:
            # The reader (`| head`) has gone; nothing may be written at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt as interrupt:
            code, interrupted = stopping.EXIT_CODE, True
            kept = "".join(f": {note}" for note in getattr(interrupt, "__notes__", ()))
            failure = f"interrupted{kept}; the same command continues where this stopped"
        except Exception as error:
            display.pause()
            text = explain(error, arguments)
            if traceback_wanted or text is None:
                _finish_sweep(interrupted=False)
                raise
            code, failure = 1, f"error: {visible(text)}"
        display.pause()
        if failure:
            print(failure, file=sys.stderr)
        return max(code, _finish_sweep(interrupted=interrupted))


def _finish_sweep(*, interrupted: bool) -> int:
    """Close the sweep's parent run, if one was opened, and print its summary."""
    if "codejoule.experiment.sweep" not in sys.modules:
        return 0
    from codejoule.experiment.sweep import close_sweep, sum_up

    summary = sum_up()
    if summary is None:
        return 0
    from codejoule.cli.summary import print_summary

    code = 1 if summary.failed or summary.missing else 0
    try:
        close_sweep(summary, interrupted=interrupted)
        print_summary(summary)
    except UserError as error:  # the store is gone; what is known is still said
        print_summary(summary, compare=False)
        print(f"error: {visible(str(error))}", file=sys.stderr)
        code = 1
    return code
