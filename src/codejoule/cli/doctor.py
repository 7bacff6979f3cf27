"""``codejoule doctor``: what this machine offers, and how to get what is missing."""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from codejoule.config import (
    ConfigError,
    UserError,
    installed_versions,
    nearest_folder,
)
from codejoule.config.extras import how_to_install
from codejoule.config.schema import EvaluatorConfig, MeterConfig, TrackingConfig
from codejoule.domain import SCHEMA_VERSION, visible
from codejoule.measurement import Gpu, Hardware, detect_hardware

PACKAGES = ("torch", "transformers", "gptqmodel", "zeus", "mlflow", "hydra-core")
"""Distributions that every job needs."""
_MODULES = """
    Crypto Levenshtein PIL blake3 bs4 chardet cryptography cv2 dateutil django docx docxtpl
    faker flask flask_login flask_mail flask_restful flask_wtf folium gensim geopandas geopy
    holidays keras librosa lxml matplotlib mechanize natsort nltk numpy openpyxl pandas
    prettytable psutil pyquery pytesseract pytz regex requests rsa scipy seaborn sendgrid
    shapely skimage sklearn soundfile statsmodels sympy tensorflow textblob texttable wikipedia
    wordcloud wordninja wtforms xlrd xlwt xmltodict yaml
"""
BENCHMARK_MODULES = _MODULES.split()
"""Third-party modules that BigCodeBench's tasks import."""
NETWORK_TIMEOUT_S = 3.0
LARGEST_DOWNLOAD_BYTES = 16 * 10**9
"""Weights of a 7 B model in bf16, the usual first download."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    item: str
    """What was looked at."""
    ok: bool
    """Whether it is there."""
    detail: str
    """What was found, and what it means."""
    fix: str | None = None
    """How to get it, where it is missing."""
    required: bool = False
    """Whether the default run needs it."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what this machine offers and what is missing",
        description="Looks at GPUs, energy counters, sandbox, hub, evaluation environment, vLLM, "
        "tracking store and packages. Exit code 1 if something is missing that the default run "
        "needs, else 0.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="Python of the evaluation environment (evaluator.python); default: that of "
        "`codejoule env bigcodebench` where it is built, else this one",
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 if the default run would not work, else 0."""
    hardware = detect_hardware()
    findings = _examine(hardware, args.python)
    if args.json:
        found = [asdict(finding) for finding in findings]
        print(
            json.dumps(
                {"schema_version": SCHEMA_VERSION, "findings": found, "hardware": asdict(hardware)},
                indent=2,
            )
        )
    else:
        _print(findings)
    return int(any(finding.required and not finding.ok for finding in findings))


def _examine(hardware: Hardware, python: str | None) -> list[Finding]:
    checks: list[Callable[[], Iterable[Finding]]] = [
        lambda: _gpus(hardware),
        lambda: [_rapl(hardware), _energy_source(hardware)],
        lambda: [_sandbox(python)],
        lambda: [_evaluation_environment(python)],
        lambda: [_vllm()],
        lambda: [_hub(), _hub_token(), _hub_cache()],
        lambda: [_tracking_store()],
        _tracking_server,
        lambda: [_packages()],
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
        print(f"The default run (codejoule run) cannot work without: {', '.join(missing)}.")
    else:
        print("The default run (codejoule run) has everything it needs.")


def _gpus(hardware: Hardware) -> list[Finding]:
    if hardware.gpus:
        return [_gpu(gpu, f"cuda:{number}") for number, gpu in enumerate(hardware.gpus)]
    models = f"models run on the CPU ({hardware.cpu_model}, {hardware.cpu_threads} threads)"
    fix = (
        "install NVIDIA's driver (in a container, start it with --gpus all), or set "
        "CUDA_VISIBLE_DEVICES to whole GPUs"
    )
    return [Finding("GPU", False, f"{hardware.gpu_problem}; {models}", fix)]


def _gpu(gpu: Gpu, name: str) -> Finding:
    fix = None
    if gpu.mig:
        fix = (
            "NVML counts energy per card, never per slice: "
            f"sudo nvidia-smi -i {gpu.index} -mig 0, or meter=cpu_estimate"
        )
    elif not gpu.energy_counter:
        fix = "energy counters exist from Volta on; use another GPU, or meter=cpu_estimate"
    detail = (
        f"{gpu.name}, {gpu.memory_bytes / 2**30:.0f} GiB, driver {gpu.driver}, energy "
        f"counter {'yes' if gpu.energy_counter else 'no'}, MIG {'on' if gpu.mig else 'off'}"
    )
    return Finding(f"GPU {name}", fix is None, detail, fix)


def _rapl(hardware: Hardware) -> Finding:
    rapl = hardware.rapl
    detail = f"{rapl.problem}; energy of the CPU is estimated"
    if rapl.readable:
        detail = f"the CPU's energy is counted: {', '.join(rapl.devices)}"
    return Finding("RAPL", rapl.readable, detail, rapl.fix)


def _energy_source(hardware: Hardware) -> Finding:
    """What ``meter=auto`` takes; the same order as `codejoule.measurement.open_meter`."""
    watts = MeterConfig().cpu_watts_per_core
    estimate = f"an estimate (CPU time x {watts:g} W per core), labelled as such"
    sources = f"on the CPU {'RAPL' if hardware.rapl.readable else estimate}"
    measurable = all(gpu.energy_counter and not gpu.mig for gpu in hardware.gpus)
    if hardware.gpus:
        gpu = "NVML" if measurable else "an error, since a GPU's energy cannot be read"
        sources = f"on a GPU {gpu}; {sources}"
    return Finding("meter=auto", measurable, sources)


def _sandbox(python: str | None) -> Finding:
    from codejoule.sandbox import Sandbox

    try:
        with Sandbox(EvaluatorConfig(python=python)) as sandbox:
            facts = sandbox.start()
    except (UserError, ConfigError) as error:
        return Finding("sandbox", False, str(error), required=True)
    version = ".".join(map(str, facts.python))
    detail = f"samples as nobody, {', '.join(facts.primitives)}; Python {version}"
    return Finding("sandbox", True, detail, required=True)


def _evaluation_environment(python: str | None) -> Finding:
    from codejoule.evaluation import find_environment

    executable = python or str(find_environment() or sys.executable)
    code = (
        "import importlib.util, json, sys\n"
        "print(json.dumps([m for m in sys.argv[1:] if importlib.util.find_spec(m) is None]))"
    )
    command = [executable, "-c", code, *BENCHMARK_MODULES]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        missing: list[str] = json.loads(said.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        fix = "name a Python with --python PATH"
        return Finding("evaluation", False, f"{executable} does not run: {error}", fix, True)
    total = len(BENCHMARK_MODULES)
    detail = f"{executable} has {total - len(missing)} of {total} modules BigCodeBench imports"
    if missing:
        detail += f"; not {', '.join(missing)}"
    fix = (
        "only for BigCodeBench (the starter suites need none): codejoule env bigcodebench "
        "builds an environment with them; or name another Python with evaluator.python=PATH, and "
        "check it with codejoule doctor --python PATH"
    )
    return Finding("evaluation", not missing, detail, fix)


def _vllm() -> Finding:
    from codejoule.generation.vllm.environment import VARIABLE, find_vllm

    try:
        python, version = find_vllm(None)
    except UserError as error:
        fix = (
            "only for engine=vllm: codejoule env vllm builds an environment with it; or name "
            f"a Python that has it in {VARIABLE}"
        )
        detail = str(error).removeprefix("engine=vllm: ").partition("; ")[0]
        return Finding("vLLM", False, detail, fix)
    return Finding("vLLM", True, f"{version} ({python}), for engine=vllm")


def _tracking_store() -> Finding:
    folder = TrackingConfig().folder
    database = folder / "mlflow.db"
    target = next(place for place in (database, folder, nearest_folder(folder)) if place.exists())
    writable = os.access(target, os.W_OK) and os.access(nearest_folder(folder), os.W_OK)
    state = "exists" if database.exists() else "is made by the first run"
    detail = f"{database} {state}" if writable else f"{target} cannot be written"
    fix = "make it writable, or choose another folder with tracking.dir=..."
    return Finding("tracking", writable, detail, fix, required=True)


def _packages() -> Finding:
    found = installed_versions(PACKAGES)
    missing = [name for name in PACKAGES if name not in found]
    running = ".".join(map(str, sys.version_info[:3]))
    detail = ", ".join(f"{name} {number}" for name, number in found.items())
    detail += f", python {running} ({sys.executable})"
    if missing:
        detail = f"not installed: {', '.join(missing)}; {detail}"
    return Finding(
        "packages",
        not missing,
        detail,
        how_to_install(missing[0]) if missing else None,
        required=True,
    )


def _hub() -> Finding:
    endpoint = _without_password(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        detail = f"{endpoint} is switched off by HF_HUB_OFFLINE: only cached models and suites"
        return Finding("hub", False, detail, "unset HF_HUB_OFFLINE")
    problem = _unreachable(endpoint)
    fix = (
        "check the network and HF_ENDPOINT; without it: model=starter, or weights=local path=..., "
        "or weights=random"
    )
    detail = f"{endpoint} answers" if problem is None else f"{endpoint}: {problem}"
    return Finding("hub", problem is None, detail, fix)


def _hub_file(variable: str, usual: str) -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    return Path(os.environ.get(variable, home / usual))


def _hub_token() -> Finding:
    file = _hub_file("HF_TOKEN_PATH", "token")
    where = next((name for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.getenv(name)), None)
    if where is None and file.is_file():
        where = str(file)
    detail = f"from {where}" if where else "none: gated models (Llama) cannot be downloaded"
    return Finding("hub token", where is not None, detail, "hf auth login, or set HF_TOKEN")


def _hub_cache() -> Finding:
    cache = _hub_file("HF_HUB_CACHE", "hub")
    free_bytes = shutil.disk_usage(nearest_folder(cache)).free
    need = f"{LARGEST_DOWNLOAD_BYTES / 10**9:.0f} GB"
    detail = f"{free_bytes / 10**9:.0f} GB free for {cache}; a 7 B model takes {need}"
    enough = free_bytes >= LARGEST_DOWNLOAD_BYTES
    return Finding("hub cache", enough, detail, "set HF_HOME to a larger disk")


def _tracking_server() -> list[Finding]:
    """The server that MLFLOW_TRACKING_URI names; nothing where it names none."""
    uri = _without_password(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if not uri.startswith(("http://", "https://")):
        return []
    problem = _unreachable(f"{uri}/health")
    said = f"{uri} answers" if problem is None else f"{uri}: {problem}"
    detail = f"{said} (MLFLOW_TRACKING_URI, for tracking=server)"
    fix = "check the address and that the server runs"
    return [Finding("tracking server", problem is None, detail, fix)]


def _unreachable(url: str) -> str | None:
    """Why `url` gives no answer within `NETWORK_TIMEOUT_S`; None if it does."""
    outcome: list[str | None] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S).close()
            outcome.append(None)
        except urllib.error.HTTPError as error:
            # Whoever refuses politely is there; a failing server or gateway is not.
            outcome.append(None if error.code < 500 else f"HTTP {error.code}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(f"no answer ({getattr(error, 'reason', error)})")

    # Resolving a name has no time-out of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(NETWORK_TIMEOUT_S)
    return outcome[0] if outcome else f"no answer within {NETWORK_TIMEOUT_S:g} s"


def _without_password(url: str) -> str:
    """`url` as it may be asked and shown: without user and password."""
    parts = urlsplit(url.rstrip("/"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
