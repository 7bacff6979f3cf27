import argparse
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codejoule.cli import doctor, main
from codejoule.measurement import Gpu, Hardware, RaplStatus

GPU = Gpu(
    index=0,
    name="NVIDIA H200",
    uuid="GPU-1",
    memory_bytes=141 * 2**30,
    driver="570.1",
    energy_counter=True,
    mig=False,
)
FAKE_VLLM = Path(__file__).parents[1] / "generation" / "fake_vllm"
NO_RAPL = RaplStatus(readable=False, problem="no RAPL: nothing there", fix="load the driver")
SANDBOX = doctor._sandbox
BARE = Hardware(
    gpus=(),
    hidden_gpus=(),
    gpu_problem="NVML cannot be used: missing",
    rapl=NO_RAPL,
    cpu_model="A CPU",
    cpu_cores=2,
    cpu_threads=2,
)


class _Hub(http.server.BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Hub]]:
    """A hub on this machine, chosen by HF_ENDPOINT."""
    server = http.server.HTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:secret@127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(_Hub, "status", 200)
    yield _Hub
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A machine whose hardware and sandbox the test decides; the rest is this one's."""
    state = SimpleNamespace(hardware=BARE, sandbox=(True, "namespaces", None))

    def sandbox(python: str | None) -> doctor.Finding:
        ok, detail, fix = state.sandbox
        return doctor.Finding(item="sandbox", ok=ok, detail=detail, fix=fix)

    monkeypatch.setattr(doctor, "detect_hardware", lambda: state.hardware)
    monkeypatch.setattr(doctor, "_sandbox", sandbox)
    monkeypatch.setenv("CODEJOULE_HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return state


def _parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    doctor.add_parser(parser.add_subparsers())
    return parser.parse_args(["doctor", *argv])


def _findings(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    doctor.run(_parse("--json", *argv))
    findings = json.loads(capsys.readouterr().out)["findings"]
    return {finding["item"]: finding for finding in findings}


def test_a_machine_without_gpu_or_counters_can_run_the_demo(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert doctor.run(_parse()) == 0
    out = capsys.readouterr().out
    assert "GPU" in out
    assert "NVML cannot be used: missing; models run on the CPU (A CPU, 2 threads)" in out
    assert "no RAPL: nothing there; energy of the CPU is estimated" in out
    assert "-> load the driver" in out
    assert "on the CPU an estimate (CPU time x 3.5 W per core), labelled as such" in out
    last = out.splitlines()[-1]
    assert last.startswith("Everything asked for is here. Works: analyze, estimate, plan, gate, ")
    assert "engine=vllm (codejoule env vllm)" in last.partition("Does not: ")[2]


def test_a_missing_sandbox_is_said_and_fails(
    machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.sandbox = (False, "no user namespaces", "sysctl kernel.unprivileged_userns_clone=1")
    assert doctor.run(_parse()) == 1
    out = capsys.readouterr().out
    assert "MISSING  no user namespaces" in out
    assert "-> sysctl kernel.unprivileged_userns_clone=1" in out
    last = out.splitlines()[-1]
    assert last.startswith("What was asked for lacks sandbox. Works: analyze, estimate, plan, ")
    works, _, fails = last.partition("Does not: ")
    assert "run" not in works.partition("Works: ")[2]
    assert "evaluate (see sandbox); run (see sandbox);" in fails


def test_a_missing_package_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "distributions", lambda extra: ["numpy", "no-such-distribution"])
    assert doctor.run(_parse()) == 1
    out = capsys.readouterr().out
    assert f"({sys.executable}): not installed: no-such-distribution" in out
    last = out.splitlines()[-1]
    assert "What was asked for lacks packages, extra run. Works: " in last
    assert "meter (pip install codejoule)" in last
    assert "run (pip install codejoule and pip install 'codejoule[run]')" in last


def test_extras_are_told_with_what_they_are_for_and_the_command_that_brings_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    brings = {None: ["numpy"], "run": ["torch"], "cluster": ["hydra-no-launcher"]}
    monkeypatch.setattr(doctor, "distributions", lambda extra: brings.get(extra, ["numpy"]))
    findings = _findings(capsys)
    assert findings["extra run"]["ok"] and findings["extra run"]["required"]
    assert findings["extra run"]["detail"].startswith("for jobs: models on a CPU or a GPU: torch ")
    missing = findings["extra cluster"]
    assert not missing["ok"] and not missing["required"]
    assert missing["detail"].endswith("not installed: hydra-no-launcher")
    assert missing["command"] == "pip install 'codejoule[cluster]'"


def test_without_an_installation_nothing_is_said_to_be_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "distributions", lambda extra: [])
    assert doctor.run(_parse()) == 1
    out = capsys.readouterr().out
    assert out.count("not known, since codejoule is not installed in this Python") == 8
    works = out.splitlines()[-1].partition("Works: ")[2].partition(".")[0]
    assert not {"run", "evaluate", "engine=vllm"} & set(works.split("; "))


@pytest.mark.parametrize(
    ("overrides", "needed"),
    [
        (["quant=none,gptq4", "batch=b1"], {"packages", "extra run", "sandbox", "tracking"}),
        (["evaluator=none"], {"packages", "extra run", "tracking"}),
        (["engine=vllm"], {"packages", "extra run", "sandbox", "tracking", "vLLM"}),
        (["suite=bigcodebench", "model=llama_8b", "quant=bnb_nf4", "hydra/launcher=joblib"],
         {"packages", "extra run", "sandbox", "tracking", "evaluation", "hub", "hub cache",
          "hub token", "extra gpu", "extra cluster"}),
        (["hydra/sweeper=optuna", "device=cuda"],
         {"packages", "extra run", "sandbox", "tracking", "extra optuna", "GPU"}),
        (["tracking=server", "tracking.uri=http://127.0.0.1:9"],
         {"packages", "extra run", "sandbox", "tracking server"}),
    ],
)  # fmt: skip
def test_a_run_that_is_named_is_judged_by_what_it_needs(
    overrides: list[str], needed: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    findings = _findings(capsys, *overrides)
    assert {item for item, found in findings.items() if found["required"]} == needed


@pytest.mark.slow
def test_what_is_asked_for_and_missing_fails_and_what_is_wrong_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CODEJOULE_VLLM_PYTHON", raising=False)
    assert doctor.run(_parse("evaluator=none")) == 0
    assert doctor.run(_parse("device=cuda")) == 1
    assert "What was asked for lacks GPU." in capsys.readouterr().out
    assert main(["doctor", "enginex=vllm"]) == 2
    assert "enginex=vllm: no such key; did you mean engine?" in capsys.readouterr().err
    for wrong in ("hydra/launcher=nonsense", "hydra/nothing=x"):
        assert main(["doctor", wrong, "hydra/sweeper=optuna"]) == 2
        assert f"error: {wrong}: no such " in capsys.readouterr().err
    sweeper = ["hydra/sweeper=resolve", "hydra.sweeper.goal=least_energy"]
    assert doctor.run(_parse(*sweeper, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")) in (
        0,
        1,
    )


def test_what_a_run_lacks_every_use_of_a_run_lacks(
    machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hub is switched off here, and BigCodeBench comes from it."""
    machine.sandbox = (False, "no user namespaces", None)
    doctor.run(_parse("--json"))
    missing = json.loads(capsys.readouterr().out)["missing"]
    assert {"sandbox", "hub"} <= set(missing["suite=bigcodebench"])
    assert "sandbox" in missing["hydra/launcher=ray, evaluator=ray"]


def test_gpus_and_what_auto_takes_are_listed(
    machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.hardware = replace(
        BARE,
        gpus=(GPU,),
        gpu_problem=None,
        rapl=RaplStatus(readable=True, devices=("cpu:0", "dram:0")),
    )
    findings = _findings(capsys)
    assert findings["GPU cuda:0"]["ok"]
    assert findings["GPU cuda:0"]["detail"] == (
        "NVIDIA H200, 141 GiB, driver 570.1, energy counter yes, MIG off"
    )
    assert findings["RAPL"]["detail"] == "the CPU's energy is counted: cpu:0, dram:0"
    assert findings["meter=auto"]["detail"] == "on a GPU NVML; on the CPU RAPL"


def test_what_a_driver_or_a_server_says_steers_no_terminal(
    machine: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.hardware = replace(BARE, gpu_problem="no \x1b[2J\x07driver")
    doctor.run(_parse())
    out = capsys.readouterr().out
    assert r"no \x1b[2J\x07driver" in out
    assert all(line.isprintable() for line in out.split("\n"))


@pytest.mark.parametrize(
    ("gpu", "fix"),
    [
        (replace(GPU, mig=True), "sudo nvidia-smi -i 0 -mig 0"),
        (replace(GPU, energy_counter=False), "from Volta on"),
    ],
)
def test_gpus_that_cannot_be_measured_are_missing(
    machine: Any, capsys: pytest.CaptureFixture[str], gpu: Gpu, fix: str
) -> None:
    machine.hardware = replace(BARE, gpus=(gpu,), gpu_problem=None)
    findings = _findings(capsys)
    assert not findings["GPU cuda:0"]["ok"]
    assert fix in findings["GPU cuda:0"]["fix"]
    assert not findings["meter=auto"]["ok"]
    assert "on a GPU an error" in findings["meter=auto"]["detail"]


def test_the_hub_is_asked_at_its_endpoint_and_no_password_is_shown(
    hub: type[_Hub], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    findings = _findings(capsys)
    assert findings["hub"]["ok"]
    assert findings["hub"]["detail"].startswith("http://127.0.0.1:")
    assert findings["hub token"] == findings["hub token"] | {"ok": True, "detail": "from HF_TOKEN"}
    assert "secret" not in json.dumps(findings)
    hub.status = 503
    assert _findings(capsys)["hub"]["detail"].endswith("HTTP 503")
    hub.status = 404
    assert _findings(capsys)["hub"]["ok"]


def test_a_hub_that_is_switched_off_is_not_asked(capsys: pytest.CaptureFixture[str]) -> None:
    hub = _findings(capsys)["hub"]
    assert not hub["ok"]
    assert "switched off by HF_HUB_OFFLINE" in hub["detail"]
    assert hub["fix"] == "unset HF_HUB_OFFLINE"


def test_a_hub_that_does_not_answer_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    hub = _findings(capsys)["hub"]
    assert not hub["ok"]
    assert "http://127.0.0.1:9: no answer" in hub["detail"]
    assert "weights=random" in hub["fix"]


def test_a_tracking_server_is_asked_only_where_one_is_set(
    hub: type[_Hub], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "tracking server" not in _findings(capsys)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", os.environ["HF_ENDPOINT"])
    assert _findings(capsys)["tracking server"]["ok"]


def test_the_evaluation_environment_is_asked_for_its_modules(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "BENCHMARK_MODULES", ["json", "no_such_module"])
    finding = _findings(capsys, "--python", sys.executable)["evaluation"]
    assert finding["detail"] == (
        f"{sys.executable} has 1 of 2 modules BigCodeBench imports; not no_such_module"
    )
    assert not finding["required"]
    broken = _findings(capsys, "--python", "/no/python")["evaluation"]
    assert broken["required"]
    assert "/no/python does not run" in broken["detail"]


def test_vllm_is_named_with_its_version_and_place_or_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("codejoule.common.environments.environments", lambda: tmp_path)
    monkeypatch.delenv("CODEJOULE_VLLM_PYTHON", raising=False)
    finding = _findings(capsys)["vLLM"]
    assert not finding["ok"] and not finding["required"]
    assert finding["detail"] == "vLLM is not here"
    assert "codejoule env vllm" in finding["fix"]
    monkeypatch.setenv("CODEJOULE_VLLM_PYTHON", sys.executable)
    assert _findings(capsys)["vLLM"]["detail"] == f"{sys.executable} has no vLLM"
    monkeypatch.setenv("PYTHONPATH", str(FAKE_VLLM))
    finding = _findings(capsys)["vLLM"]
    assert finding["ok"] and finding["fix"] is None
    assert finding["detail"] == f"vllm 0.32.0 ({sys.executable}), for engine=vllm"


def test_a_tracking_store_to_be_made_is_fine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    finding = _findings(capsys)["tracking"]
    assert finding["ok"]
    assert finding["detail"] == f"{tmp_path}/mlruns/mlflow.db is made by the first run"


def test_json_holds_findings_and_hardware(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run(_parse("--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["hardware"]["cpu_model"] == "A CPU"
    assert {"item", "ok", "detail", "fix", "required", "command"} == set(report["findings"][0])
    assert "run" in report["works"]
    assert report["missing"]["models and suites of the hub"] == ["hub"]
    assert report["summary"].startswith("Everything asked for is here.")


def test_the_real_machine_is_examined_without_torch_or_mlflow() -> None:
    code = (
        "import argparse, sys\n"
        "from codejoule.cli import doctor\n"
        "parser = argparse.ArgumentParser()\n"
        "doctor.add_parser(parser.add_subparsers())\n"
        "code = doctor.run(parser.parse_args(['doctor']))\n"
        "assert not {'torch', 'mlflow', 'transformers'} & set(sys.modules)\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stderr == ""
    assert done.returncode in {0, 1}
    for item in ("GPU", "RAPL", "meter=auto", "sandbox", "hub", "evaluation", "tracking"):
        assert f"\n{item} " in f"\n{done.stdout}"


def test_what_the_sandbox_offers_is_found_by_trying() -> None:
    found = SANDBOX(None)
    assert found.ok
    assert "as nobody" in found.detail
    assert "seccomp" in found.detail


def test_an_interpreter_that_does_not_work_is_reported_and_not_raised() -> None:
    found = SANDBOX("/no/such/python")
    assert not found.ok
    assert "evaluator.python=/no/such/python" in found.detail
    assert "give the path of one" in found.detail
