"""``codejoule meter -- COMMAND``: the energy of any command."""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from queue import SimpleQueue
from statistics import fmean
from types import FrameType
from typing import TYPE_CHECKING, Self

from codejoule.common.progress import pause, say
from codejoule.config import UserError
from codejoule.config.schema import MeterConfig, MeterName, OnBusyGpu
from codejoule.domain import SCHEMA_VERSION, EnergySource
from codejoule.domain.text import number as figure

if TYPE_CHECKING:
    from codejoule.domain import EnergyReading
    from codejoule.measurement import Hardware, Meter

# SIGQUIT (Ctrl-backslash) still ends everything at once.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_SHORTEST_S = 0.1
"""The NVIDIA driver's counter moves as often."""
_SPREAD_S = 0.1
"""A signal to a whole process group has reached each of its processes after this long."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add ``codejoule meter``."""
    parser = subparsers.add_parser(
        "meter",
        help="run a command and print the energy it took",
        description="Run COMMAND and print, on stderr, the energy of every visible GPU (else of "
        "the CPU by RAPL) meanwhile: the whole devices, idle power included. Where RAPL can be "
        "read, the CPU's energy is given beside the GPUs'. Without any counter the energy is an "
        "estimate from the CPU time of COMMAND, and labelled so. The exit code is that of "
        "COMMAND. Ctrl-C and other signals reach COMMAND, and the energy is printed once it has "
        "ended.",
    )
    parser.add_argument(
        "--every",
        type=_seconds,
        metavar="S",
        help="print the mean power of each S seconds, on stderr, while COMMAND runs (1s, 0.5)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the figures as one line of JSON, on stdout"
    )
    parser.add_argument(
        "--idle-s",
        type=float,
        default=MeterConfig().idle_s,
        metavar="S",
        help="watch idle power for at most S seconds before the command, for net energy; 0: do not",
    )
    parser.add_argument(
        "--on-busy-gpu",
        choices=[choice.value for choice in OnBusyGpu],
        default=OnBusyGpu.error.value,
        help="if a process that is not part of COMMAND uses a GPU; warn is right for a server "
        "that is itself being measured (default: error)",
    )
    parser.add_argument(
        "--replay",
        nargs="?",
        const="",
        metavar="FILE",
        help="try it without a GPU: play a recording, by default of an NVIDIA H200. The figures "
        "are those of the recording, whatever COMMAND does",
    )
    parser.add_argument("command_line", nargs="+", metavar="COMMAND", help="after --")


def run(args: argparse.Namespace) -> int:
    """Run the command, print its energy however it ends, and return its exit code."""
    from codejoule.measurement import (
        Work,
        at_work,
        detect_hardware,
        metered_devices,
        open_command_meter,
    )

    config = MeterConfig(
        name=MeterName.auto if args.replay is None else MeterName.replay,
        recording=args.replay or None,
        idle_s=args.idle_s,
        on_busy_gpu=OnBusyGpu(args.on_busy_gpu),
    )
    hardware = detect_hardware()
    devices = metered_devices(config, hardware, range(len(hardware.gpus)))
    with (
        at_work(args.command_line[0], Work.command, devices=devices),
        open_command_meter(config) as meter,
    ):
        idle_power_w = meter.measure_idle()
        pause()
        with _Relay() as relay:
            code: int | None = None
            try:
                with meter.window("command") as window, _watched(meter, args.every):
                    try:
                        ended = relay.run(args.command_line)
                    except (OSError, ValueError) as error:  # the latter for a null byte
                        raise UserError(f"cannot run {args.command_line[0]!r}: {error}") from error
                    # As a shell reports a signal.
                    code = 128 - ended if ended < 0 else ended
                if args.json:
                    print(_json(window.reading, idle_power_w, args.command_line, code), flush=True)
                else:
                    print(_report(window.reading, idle_power_w), file=sys.stderr)
                    if window.reading.source is EnergySource.estimate:
                        say(_why(config, hardware))
            except UserError as error:
                if code is None:
                    raise
                # COMMAND has run, and whoever called it asks for its exit code.
                print(f"error: no energy of {args.command_line[0]!r}: {error}", file=sys.stderr)
    return code


def _seconds(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time; write 1s or 0.5s") from None
    if not _SHORTEST_S <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be at least {_SHORTEST_S:g} s")
    return seconds


@contextmanager
def _watched(meter: "Meter", every_s: float | None) -> Iterator[None]:
    """Inside, print the mean power of each `every_s`; nothing where that is None."""
    if every_s is None:
        yield
        return
    ended, began_s = threading.Event(), time.monotonic()
    meter.new_power()

    def watch() -> None:
        for number in count(1):
            if ended.wait(max(began_s + number * every_s - time.monotonic(), 0)):
                return
            line = f"{_clock(number * every_s)}  {_mean_power(meter)}"
            print(line, file=sys.stderr, flush=True)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def _clock(after_s: float) -> str:
    return f"{after_s:8.1f} s"


def _mean_power(meter: "Meter") -> str:
    """Of all devices since the last call; a dash where one has told nothing."""
    powers_w: dict[str, list[float]] = {name: [] for name in meter.devices}
    for sample in meter.new_power():
        if sample.device in powers_w:
            powers_w[sample.device].append(sample.power_w)
    if not all(powers_w.values()):
        return "-"
    return f"{sum(map(fmean, powers_w.values())):.1f} W{meter.source.label}"


def _why(config: MeterConfig, hardware: "Hardware") -> str:
    """How an estimate came about, and what would give a measurement."""
    return (
        f"This is an estimate: CPU time of the command x {config.cpu_watts_per_core:g} W. No "
        f"energy counter is here: {hardware.gpu_problem}; {hardware.rapl.problem}. To get one: "
        f"{hardware.rapl.fix}."
    )


def _json(
    reading: "EnergyReading", idle_power_w: float | None, command: Sequence[str], code: int
) -> str:
    """The figures by name, units in the names; what is not known is null."""
    known = math.isfinite(reading.energy_j)
    report = {
        "schema_version": SCHEMA_VERSION,
        "command": list(command),
        "exit_code": code,
        "energy_j": reading.energy_j if known else None,
        "uncertainty_j": reading.uncertainty_j,
        "energy_source": reading.source.value,
        "energy_scope": reading.scope.value,
        "energy_by_device_j": dict(reading.energy_by_device_j),
        "energy_out_of_scope_j": dict(reading.energy_out_of_scope_j),
        "energy_net_j": reading.energy_net_j,
        "idle_power_w": idle_power_w,
        "latency_s": reading.latency_s,
        "mean_power_w": reading.energy_j / reading.latency_s if known else None,
        "integrated_j": reading.integrated_j,
        "concurrent": list(reading.concurrent),
    }
    return json.dumps(report)


def _report(reading: "EnergyReading", idle_power_w: float | None) -> str:
    error = "" if reading.uncertainty_j is None else f" +- {reading.uncertainty_j:.2f}"
    covered = f"({reading.source.value}, {reading.scope.value})"
    if math.isnan(reading.energy_j):
        took = f"the command took {reading.latency_s:.4f} s"
        if reading.source is EnergySource.estimate:
            return f"energy      not known: {took}, but too little CPU time to be told {covered}"
        return f"energy      not measured: {took}, too short for the counter {covered}"
    lines = [f"energy      {_figure(reading.energy_j, 2)}{error} J {covered}"]
    if len(reading.energy_by_device_j) > 1:
        lines += [f"  {name:10s}{j:.2f} J" for name, j in reading.energy_by_device_j.items()]
    if reading.energy_out_of_scope_j:
        beside = ", ".join(f"{name} {j:.2f} J" for name, j in reading.energy_out_of_scope_j.items())
        lines.append(f"beside      {beside} (rapl; not in the energy above)")
    if reading.energy_net_j is not None:
        lines.append(f"net         {reading.energy_net_j:.2f} J (idle {idle_power_w:.1f} W)")
    if reading.concurrent:
        lines.append(f"meanwhile   {'; '.join(reading.concurrent)} (may have changed the energy)")
    lines.append(f"time        {reading.latency_s:.3f} s")
    lines.append(f"mean power  {_figure(reading.energy_j / reading.latency_s, 1)} W")
    if reading.integrated_j is not None and reading.energy_j > 0:
        difference = 100 * (reading.integrated_j / reading.energy_j - 1)
        lines.append(f"crosscheck  {difference:+.1f} % (integrated power against the counter)")
    return "\n".join(lines)


def _figure(value: float, places: int) -> str:
    """With so many decimal places, or more where these would be a zero."""
    return f"{value:.{places}f}" if value >= 1 else figure(value)


class _Relay:
    """While inside, signals end the command that `run` runs, and not this process. A command that
    such a signal has not reached gets it passed on: ``kill`` sends to this process alone, a
    terminal (or ``timeout``, or a batch system) to the whole process group. What this process
    ignores (``nohup``) it goes on ignoring."""

    def __init__(self) -> None:
        self._received: SimpleQueue[tuple[int, float] | None] = SimpleQueue()

    def __enter__(self) -> Self:
        handled = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {n: signal.signal(n, self._receive) for n in handled}
        self._witness = _witness()
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._witness.communicate()

    def run(self, command_line: Sequence[str]) -> int:
        """Run the command to its end; its exit code, as `subprocess` gives it."""
        with subprocess.Popen(command_line) as command:
            passing = threading.Thread(target=self._pass_on, args=(command,))
            passing.start()
            code = command.wait()
            self._received.put(None)
            passing.join()
        return code

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._received.put((number, time.monotonic()))

    def _pass_on(self, command: "subprocess.Popen[bytes]") -> None:
        last, last_s = 0, 0.0
        while (received := self._received.get()) is not None:
            number, received_s = received
            # `timeout` sends to its child first and then to the group, which is one request.
            if number == last and received_s < last_s + _SPREAD_S:
                continue
            last, last_s = received
            with suppress(ProcessLookupError):  # it has ended meanwhile
                if not self._has_reached(command):
                    command.send_signal(number)

    def _has_reached(self, command: "subprocess.Popen[bytes]") -> bool:
        """Whether the last signal was sent to the whole group: then it has ended the witness."""
        try:
            self._witness.wait(_SPREAD_S)
        except subprocess.TimeoutExpired:
            return False
        self._witness.communicate()
        self._witness = _witness()
        return os.getpgid(command.pid) == os.getpgrp()


def _witness() -> "subprocess.Popen[bytes]":
    """A process of this group that any of the signals ends, and so does the end of this one."""
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
