"""``codejoule doctor``: what this machine offers, and how to get what is missing."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

from codejoule.cli.doctor_network import Finding, hub_findings, tracking_server_findings
from codejoule.config import (
    ConfigError,
    UserError,
    installed_versions,
    nearest_folder,
    project_root,
)
from codejoule.config.schema import EvaluatorConfig, MeterConfig
from codejoule.domain import visible
from codejoule.measurement import Gpu, Hardware, detect_hardware

PACKAGES = ("torch", "transformers", "gptqmodel", "zeus", "mlflow", "hydra-core")
"""Distributions that every job needs."""
_MODULES = (
    "Crypto Levenshtein PIL blake3 bs4 chardet cryptography cv2 dateutil django docx docxtpl "
    "faker flask flask_login flask_mail flask_restful flask_wtf folium gensim geopandas geopy "
    "holidays keras librosa lxml matplotlib mechanize natsort nltk numpy openpyxl pandas "
    "prettytable psutil pyquery pytesseract pytz regex requests rsa scipy seaborn sendgrid "
    "shapely skimage sklearn soundfile statsmodels sympy tensorflow textblob texttable wikipedia "
    "wordcloud wordninja wtforms xlrd xlwt xmltodict yaml"
)
BENCHMARK_MODULES = _MODULES.split()
"""Third-party modules that BigCodeBench's tasks import."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what this machine offers and what is missing",
        description="Looks at GPUs, energy counters, sandbox, hub, evaluation environment, "
        "tracking store and packages. Exit code 1 if something is missing that the default run "
        "needs, else 0.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="Python of the evaluation environment (evaluator.python); default: that of "
        "`make eval-env` where it is built, else this one",
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 if the default run would not work, else 0."""
    hardware = detect_hardware()
    findings = _examine(hardware, args.python)
    if args.json:
        found = [asdict(finding) for finding in findings]
        print(json.dumps({"findings": found, "hardware": asdict(hardware)}, indent=2))
    else:
        _print(findings)
    return int(any(finding.required and not finding.ok for finding in findings))


def _examine(hardware: Hardware, python: str | None) -> list[Finding]:
    checks: list[Callable[[], Iterable[Finding]]] = [
        lambda: _gpus(hardware),
        lambda: [_rapl(hardware), _energy_source(hardware)],
        lambda: [_sandbox(python)],
        lambda: [_evaluation_environment(python)],
        hub_findings,
        lambda: [_tracking_store()],
        tracking_server_findings,
        lambda: [_python(), _packages()],
    ]
    # Side by side, so that waiting for a network that is not there costs its time-out once.
    with ThreadPoolExecutor(len(checks)) as pool:
        return [finding for found in pool.map(lambda check: check(), checks) for finding in found]


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.item) for finding in findings)
    for finding in findings:
        state = "ok" if finding.ok else "MISSING" if finding.required else "missing"
        print(visible(f"{finding.item:<{width}}  {state:<7}  {finding.detail}"))
        if finding.fix is not None and not finding.ok:
            print(visible(f"{'':<{width}}           -> {finding.fix}"))
    missing = [finding.item for finding in findings if finding.required and not finding.ok]
    print()
    if missing:
        print(f"The default run (make demo) cannot work without: {', '.join(missing)}.")
    else:
        print("The default run (make demo) has everything it needs.")


def _gpus(hardware: Hardware) -> list[Finding]:
    none = Finding(
        item="GPU",
        ok=False,
        detail=f"{hardware.gpu_problem}; models run on the CPU ({hardware.cpu_model}, "
        f"{hardware.cpu_threads} threads)",
        fix="install NVIDIA's driver (in a container, start it with --gpus all), or set "
        "CUDA_VISIBLE_DEVICES to whole GPUs",
    )
    return [_gpu(gpu, f"cuda:{number}") for number, gpu in enumerate(hardware.gpus)] or [none]


def _gpu(gpu: Gpu, name: str) -> Finding:
    measurable = gpu.energy_counter and not gpu.mig
    fix = None
    if gpu.mig:
        fix = (
            "NVML counts energy per card, never per slice: "
            f"sudo nvidia-smi -i {gpu.index} -mig 0, or meter=cpu_estimate"
        )
    elif not gpu.energy_counter:
        fix = "energy counters exist from Volta on; use another GPU, or meter=cpu_estimate"
    return Finding(
        item=f"GPU {name}",
        ok=measurable,
        detail=f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB, driver {gpu.driver}, energy "
        f"counter {'yes' if gpu.energy_counter else 'no'}, MIG {'on' if gpu.mig else 'off'}",
        fix=fix,
    )


def _rapl(hardware: Hardware) -> Finding:
    rapl = hardware.rapl
    detail = f"{rapl.problem}; energy of the CPU is estimated"
    if rapl.readable:
        detail = f"the CPU's energy is counted: {', '.join(rapl.devices)}"
    return Finding(item="RAPL", ok=rapl.readable, detail=detail, fix=rapl.fix)


def _energy_source(hardware: Hardware) -> Finding:
    """What ``meter=auto`` takes; the same order as `codejoule.measurement.open_meter`."""
    if hardware.rapl.readable:
        cpu = "RAPL"
    else:
        watts = MeterConfig().cpu_watts_per_core
        cpu = f"an estimate (CPU time x {watts:g} W per core), labelled as such"
    sources = f"on the CPU {cpu}"
    unmeasurable = [gpu for gpu in hardware.gpus if gpu.mig or not gpu.energy_counter]
    if hardware.gpus:
        gpu = "an error, since a GPU's energy cannot be read" if unmeasurable else "NVML"
        sources = f"on a GPU {gpu}; {sources}"
    return Finding(item="meter=auto", ok=not unmeasurable, detail=sources)


def _sandbox(python: str | None) -> Finding:
    from codejoule.sandbox import Sandbox

    try:
        with Sandbox(EvaluatorConfig(python=python)) as sandbox:
            facts = sandbox.start()
    except (UserError, ConfigError) as error:
        return Finding(item="sandbox", ok=False, detail=str(error), required=True)
    version = ".".join(map(str, facts.python))
    detail = f"samples as nobody, {', '.join(facts.primitives)}; Python {version}"
    return Finding(item="sandbox", ok=True, detail=detail, required=True)


def _evaluation_environment(python: str | None) -> Finding:
    from codejoule.evaluation import find_environment

    executable = python or str(find_environment() or sys.executable)
    code = (
        "import importlib.util, json, sys\n"
        "print(json.dumps([m for m in sys.argv[1:] if importlib.util.find_spec(m) is None]))"
    )
    fix = (
        "only for BigCodeBench (the starter suites need none): make eval-env builds an "
        "environment with them; or name another Python with evaluator.python=PATH, and check it "
        "with codejoule doctor --python PATH"
    )
    try:
        said = subprocess.run(
            [executable, "-c", code, *BENCHMARK_MODULES],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        missing: list[str] = json.loads(said.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return Finding(
            item="evaluation",
            ok=False,
            detail=f"{executable} does not run: {error}",
            fix="name a Python with --python PATH",
            required=True,
        )
    total = len(BENCHMARK_MODULES)
    detail = f"{executable} has {total - len(missing)} of {total} modules BigCodeBench imports"
    if missing:
        detail += f"; not {', '.join(missing)}"
    return Finding(item="evaluation", ok=not missing, detail=detail, fix=fix)


def _tracking_store() -> Finding:
    folder = project_root() / "mlruns"
    database = folder / "mlflow.db"
    target = next(place for place in (database, folder, nearest_folder(folder)) if place.exists())
    writable = os.access(target, os.W_OK) and os.access(nearest_folder(folder), os.W_OK)
    state = "exists" if database.exists() else "is made by the first run"
    return Finding(
        item="tracking",
        ok=writable,
        detail=f"{database} {state}" if writable else f"{target} cannot be written",
        fix="make it writable, or choose another folder with tracking.dir=...",
        required=True,
    )


def _python() -> Finding:
    running = ".".join(map(str, sys.version_info[:3]))
    return Finding(
        item="python",
        ok=sys.version_info >= (3, 11),
        detail=f"{running} ({sys.executable})",
        fix="codejoule needs Python 3.11 or newer",
        required=True,
    )


def _packages() -> Finding:
    found = installed_versions(PACKAGES)
    missing = [name for name in PACKAGES if name not in found]
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    if missing:
        detail = f"not installed: {', '.join(missing)}; {detail}"
    fix = "make setup installs them"
    return Finding(item="packages", ok=not missing, detail=detail, fix=fix, required=True)
