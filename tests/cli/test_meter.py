"""``codejoule meter`` over a recording of an H200."""

import json
import logging
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from codejoule.cli import main
from codejoule.cli.meter import _clock, _report
from codejoule.config import UserError
from codejoule.domain import SCHEMA_VERSION, EnergyReading, EnergyScope, EnergySource
from codejoule.measurement.feed import BUNDLED_RECORDING

RECORDING = str(BUNDLED_RECORDING)


def _meter(*command: str) -> int:
    options = ["--replay", RECORDING, "--idle-s", "0.4"]
    return main(["meter", *options, "--", *command])


def test_the_energy_of_a_command_is_printed_with_its_uncertainty(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert _meter(sys.executable, "-c", "import time; time.sleep(0.3); print('hi')") == 0
    out, err = capfd.readouterr()
    assert out == "hi\n"
    for part in ("energy ", " +- ", "(replay, gpu)", "net ", "idle ", "mean power", "crosscheck"):
        assert part in err


def _reading(energy_j: float, **facts: object) -> EnergyReading:
    return EnergyReading(
        name="command", source=EnergySource.nvml, scope=EnergyScope.gpu, start_s=0.0,
        latency_s=0.5, energy_j=energy_j, **facts,  # type: ignore[arg-type]
    )  # fmt: skip


def test_each_gpu_and_the_cpu_beside_them_have_a_line() -> None:
    reading = _reading(
        30.0,
        energy_by_device_j={"gpu:0": 20.0, "gpu:1": 10.0},
        energy_out_of_scope_j={"cpu:0": 4.0, "dram:0": 0.5},
    )
    report = _report(reading, None)
    assert "  gpu:0     20.00 J\n  gpu:1     10.00 J\n" in report
    assert "beside      cpu:0 4.00 J, dram:0 0.50 J (rapl; not in the energy above)" in report


def test_who_else_worked_meanwhile_is_told() -> None:
    report = _report(_reading(30.0, concurrent=("starter-none-b1 (process 7, since now)",)), None)
    assert "\nmeanwhile   starter-none-b1 (process 7, since now) (may have changed" in report
    assert "meanwhile" not in _report(_reading(30.0), None)


def test_a_command_is_known_to_other_jobs_while_it_runs(capfd: pytest.CaptureFixture[str]) -> None:
    look = "from codejoule.measurement import jobs; print(jobs._living(jobs._meeting_place(), {}))"
    assert _meter(sys.executable, "-c", look) == 0
    assert "work=<Work.command: 'command'>" in capfd.readouterr().out


def test_a_command_too_short_to_measure_gets_no_figure() -> None:
    report = _report(_reading(math.nan), None)
    assert report.startswith("energy      not measured: the command took 0.5000 s, too short")
    assert "0.00" not in report


def test_a_small_energy_is_not_printed_as_zero() -> None:
    assert "energy      0.00311 J (" in _report(_reading(0.00311), None)
    assert "mean power  0.00622 W" in _report(_reading(0.00311), None)


def test_the_exit_code_is_the_commands() -> None:
    assert _meter(sys.executable, "-c", "raise SystemExit(7)") == 7


def test_a_command_that_does_not_exist_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert _meter("no-such-command-at-all") == 2
    assert "cannot run 'no-such-command-at-all'" in capsys.readouterr().err


_BUSY = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


def test_without_a_counter_the_energy_is_an_estimate_of_the_command_alone(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codejoule.measurement.cpu.RAPL_DIRS", (Path("/nowhere"),))
    monkeypatch.setattr("codejoule.measurement.hardware.detect_gpus", lambda: ((), (), "no NVML"))
    command = [sys.executable, "-S", "-c", _BUSY]
    assert main(["meter", "--json", "--", *command]) == 0
    figures = json.loads(capfd.readouterr().out)
    assert figures["energy_source"] == "estimate" and figures["energy_scope"] == "cpu"
    assert 0.5 * 3.5 <= figures["energy_j"] < 1.5 * 3.5, "what the command took, at 3.5 W"
    assert figures["schema_version"] == SCHEMA_VERSION and figures["command"] == command
    assert main(["meter", "--", *command]) == 0
    err = capfd.readouterr().err
    assert " J (estimate, cpu)" in err
    assert (
        "an estimate: CPU time of the command x 3.5 W. No energy counter is here: no NVML; no"
        in err
    )
    assert main(["meter", "--quiet", "--", *command]) == 0
    assert "an estimate:" not in capfd.readouterr().err


def test_a_warning_has_a_line_of_its_own_and_none_with_quiet(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_: object) -> int:
        logging.getLogger("codejoule.sandbox").warning("worker lost")
        return 0

    monkeypatch.setattr("codejoule.cli.meter.run", run)
    assert main(["meter", "--", "true"]) == 0
    assert capfd.readouterr() == ("", "warning: worker lost\n")
    assert main(["meter", "--quiet", "--", "true"]) == 0
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("codejoule").propagate


def test_a_command_that_sleeps_has_an_estimate_and_keeps_its_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codejoule.measurement.cpu.RAPL_DIRS", (Path("/nowhere"),))
    monkeypatch.setattr("codejoule.measurement.hardware.detect_gpus", lambda: ((), (), "no NVML"))
    assert main(["meter", "--json", "--", "sh", "-c", "sleep 0.3; exit 7"]) == 7
    assert 0 < json.loads(capfd.readouterr().out)["energy_j"] < 0.2
    # Here nothing is told of what ended.
    monkeypatch.setattr(
        "codejoule.measurement.cpu.getrusage", lambda _: SimpleNamespace(ru_utime=0.0, ru_stime=0.0)
    )
    assert main(["meter", "--", "sh", "-c", "sleep 0.3; exit 7"]) == 7
    assert "too little CPU time to be told (estimate, cpu)" in capfd.readouterr().err


def test_an_error_of_the_counter_leaves_the_commands_exit_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(*_: object) -> None:
        raise UserError("the driver was reset")

    monkeypatch.setattr("codejoule.measurement.window.Window.close", reset)
    assert _meter("sh", "-c", "kill -TERM $$") == 128 + 15
    assert "error: no energy of 'sh': the driver was reset" in capfd.readouterr().err


def test_power_is_printed_while_the_command_runs(capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--replay", "--idle-s", "0", "--every", "0.4s", "--json"]
    assert main(["meter", *options, "--", "sleep", "1"]) == 0
    out, err = capfd.readouterr()
    assert [line.split()[0] for line in err.splitlines()] == ["0.4", "0.8"]
    assert all(line.endswith(" W (replay)") for line in err.splitlines())
    figures = json.loads(out)
    assert figures["energy_source"] == "replay" and figures["exit_code"] == 0


def test_the_clock_of_a_long_command_goes_on() -> None:
    assert [_clock(after_s) for after_s in (0.5, 9999.0, 10000.0, 86401.0)] == [
        "     0.5 s", "  9999.0 s", " 10000.0 s", " 86401.0 s"
    ]  # fmt: skip


def test_a_time_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for text, said in (("soon", "'soon' is no time"), ("0", "must be at least 0.1 s")):
        with pytest.raises(SystemExit):
            main(["meter", "--every", text, "--", "true"])
        assert said in capsys.readouterr().err
