"""``codejoule doctor``: what this machine offers, and how to get what is missing."""

import argparse
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from codejoule.config import (
    ConfigError,
    UserError,
    installed_versions,
    nearest_folder,
)
from codejoule.config.extras import EXTRAS, distributions
from codejoule.config.schema import (
    Device,
    EvaluatorConfig,
    EvaluatorName,
    ExperimentConfig,
    MeterConfig,
    TrackingConfig,
    TrackingName,
    Weights,
)
from codejoule.domain import SCHEMA_VERSION, visible
from codejoule.measurement import Gpu, Hardware, detect_hardware

_SHOWN = ("hydra-core", "mlflow", "zeus")
_RUN = ("packages", "extra run", "sandbox", "tracking")
"""What the default run needs."""
USES = {
    "analyze, estimate, plan, gate, meter": ("packages",),
    "evaluate": ("packages", "sandbox"),
    "run": _RUN,
    "models and suites of the hub": (*_RUN, "hub"),
    "suite=bigcodebench": (*_RUN, "hub", "evaluation"),
    "engine=vllm": (*_RUN, "vLLM"),
    **{", ".join(own): (*_RUN, f"extra {name}") for name, own in EXTRAS.items() if own},
}
"""What codejoule does, and the findings that each needs."""
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
    """Whether what was asked for needs it."""
    command: str | None = None
    """The one command that gets it, where there is one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is judged: the run that is named, or the default one."""

    needs: frozenset[str] = frozenset(_RUN)
    """The findings that it rests on."""
    python: str | None = None
    """Python of the evaluation environment; None for the usual one."""
    vllm: str | None = None
    """Python that has vLLM; None for the usual one."""
    server: str = field(default_factory=lambda: os.environ.get("MLFLOW_TRACKING_URI", ""))
    """Address of the tracking server; empty where there is none."""
    store: Path = field(default_factory=lambda: TrackingConfig().folder)
    """Folder of the store on this machine."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what this machine offers and what is missing",
        description="Looks at GPUs, energy counters, sandbox, hub, evaluation environment, vLLM, "
        "tracking store, packages and the extras of codejoule. Given a run (engine=vllm "
        "suite=bigcodebench hydra/launcher=joblib), it judges what that needs, else what the "
        "default run needs. The last line says what works on this machine, what does not, and the "
        "command that mends it. Exit code 0 if everything asked for is there, 1 if something is "
        "missing, 2 if the arguments are wrong.",
        epilog="example: codejoule doctor model=qwen_7b engine=vllm suite=bigcodebench",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as codejoule run takes them"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.add_argument(
        "--python",
        metavar="PATH",
        help="Python of the evaluation environment (evaluator.python); default: that of "
        "`codejoule env bigcodebench` where it is built, else this one",
    )


def run(args: argparse.Namespace) -> int:
    """Print the report; 1 where something asked for is missing, else 0."""
    asked = _asked(args.overrides)
    hardware = detect_hardware()
    findings = [
        replace(found, required=found.required or found.item.partition(" cuda")[0] in asked.needs)
        for found in _examine(hardware, replace(asked, python=args.python or asked.python))
    ]
    if args.json:
        report = {
            "schema_version": SCHEMA_VERSION,
            "findings": [asdict(found) for found in findings],
            "hardware": asdict(hardware),
            "works": [name for name in USES if not _lacks(name, findings)],
            "missing": {
                name: [own.item for own in lacks]
                for name in USES
                if (lacks := _lacks(name, findings))
            },
            "summary": _summary(findings),
        }
        print(json.dumps(report, indent=2))
    else:
        _print(findings)
    return int(any(found.required and not found.ok for found in findings))


def _asked(overrides: Sequence[str]) -> Asked:
    """What a run or a sweep with these overrides rests on. Raises `ConfigError` for overrides that
    are none."""
    if not overrides:
        return Asked()
    from codejoule.config.compose import compose_experiment, compose_sweep

    brought = {choice: name for name, choices in EXTRAS.items() for choice in choices}
    of_hydra = _of_groups({own.partition("=")[0] for own in overrides if own[:6] == "hydra/"})
    # Hydra knows a plugin's choices and keys only where it is installed.
    of_plugins = _of_groups({own.partition("=")[0] for own in overrides if own in brought})
    compose_experiment([own for own in overrides if of_hydra(own) and not of_plugins(own)])
    asked = Asked(needs=frozenset(f"extra {brought[own]}" for own in overrides if own in brought))
    for own in compose_sweep([own for own in overrides if not of_hydra(own)]):
        served = own.tracking.name is TrackingName.server
        asked = Asked(
            needs=asked.needs | _needs(own),
            python=own.evaluator.python or asked.python,
            vllm=own.engine.python or asked.vllm,
            server=str(own.tracking.uri) if served else asked.server,
            store=own.tracking.folder,
        )
    return asked


def _of_groups(groups: Iterable[str]) -> Callable[[str], bool]:
    """Whether an override chooses one of these groups or sets a key of one."""
    starts = tuple(
        start for group in groups for start in (f"{group}=", group.replace("/", ".") + ".")
    )
    return lambda override: override.startswith(starts)


def _needs(own: ExperimentConfig) -> frozenset[str]:
    """The findings that a run rests on."""
    judged = own.evaluator.name is not EvaluatorName.none
    from_hub = own.model.weights is Weights.hub
    tasks_from_hub = own.suite.hub_id is not None and own.suite.path is None
    holds = {
        "packages": True,
        "extra run": True,
        "tracking": own.tracking.name is TrackingName.local,
        "tracking server": own.tracking.name is TrackingName.server,
        "sandbox": judged,
        "evaluation": judged and own.suite.name.startswith("bigcodebench"),
        "vLLM": own.engine.facts.owns_model and not own.engine.facts.runs_already,
        "extra gpu": f"quant={own.quant.name}" in EXTRAS["gpu"],
        "hub": from_hub or tasks_from_hub,
        "hub cache": from_hub,
        "hub token": from_hub and own.model.gated,
        "GPU": own.device is Device.cuda,
    }
    return frozenset(item for item, needed in holds.items() if needed)


def _purpose(extra: str) -> str:
    return ", ".join(EXTRAS[extra]) or "jobs: models on a CPU or a GPU"


def _examine(hardware: Hardware, asked: Asked) -> list[Finding]:
    checks: list[Callable[[], Iterable[Finding]]] = [
        lambda: _gpus(hardware),
        lambda: [_rapl(hardware), _energy_source(hardware)],
        lambda: [_sandbox(asked.python)],
        lambda: [_evaluation_environment(asked.python)],
        lambda: [_vllm(asked.vllm)],
        lambda: [_hub(), _hub_token(), _hub_cache()],
        lambda: [_tracking_store(asked.store), *_outboxes(asked.store)],
        lambda: _tracking_server(asked.server),
        lambda: [_installed(None), *map(_installed, EXTRAS)],
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
    print()
    print(visible(_summary(findings)))


def _lacks(use: str, findings: Sequence[Finding]) -> list[Finding]:
    """What is missing for a use of codejoule."""
    return [found for found in findings if found.item in USES[use] and not found.ok]


def _summary(findings: Sequence[Finding]) -> str:
    """Whether what was asked for is there, what works, what does not, and what mends it."""
    lacking = {name: own for name in USES if (own := _lacks(name, findings))}
    works = [name for name in USES if name not in lacking]
    asked = ", ".join(own.item for own in findings if own.required and not own.ok)
    words = [f"What was asked for lacks {asked}." if asked else "Everything asked for is here."]
    words.append(f"Works: {'; '.join(works) or 'nothing'}.")
    if lacking:
        told = [f"{name} ({_mend(own)})" for name, own in lacking.items()]
        words.append(f"Does not: {'; '.join(told)}.")
    return " ".join(words)


def _mend(lacks: Sequence[Finding]) -> str:
    """The commands, or where to look for what has none."""
    return " and ".join(dict.fromkeys(own.command or f"see {own.item}" for own in lacks))


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
        return Finding("sandbox", False, str(error))
    version = ".".join(map(str, facts.python))
    detail = f"samples as nobody, {', '.join(facts.primitives)}; Python {version}"
    return Finding("sandbox", True, detail)


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
    return Finding("evaluation", not missing, detail, fix, command="codejoule env bigcodebench")


def _vllm(named: str | None) -> Finding:
    from codejoule.generation.vllm.environment import VARIABLE, find_vllm

    try:
        python, version = find_vllm(named)
    except UserError as error:
        fix = (
            "only for engine=vllm: codejoule env vllm builds an environment with it; or name "
            f"a Python that has it in {VARIABLE}"
        )
        detail = str(error).removeprefix("engine=vllm: ").partition("; ")[0]
        return Finding("vLLM", False, detail, fix, command="codejoule env vllm")
    return Finding("vLLM", True, f"{version} ({python}), for engine=vllm")


def _tracking_store(folder: Path) -> Finding:
    database = folder / "mlflow.db"
    target = next(place for place in (database, folder, nearest_folder(folder)) if place.exists())
    writable = os.access(target, os.W_OK) and os.access(nearest_folder(folder), os.W_OK)
    state = "exists" if database.exists() else "is made by the first run"
    detail = f"{database} {state}" if writable else f"{target} cannot be written"
    fix = "make it writable, or choose another folder with tracking.dir=..."
    return Finding("tracking", writable, detail, fix)


def _outboxes(folder: Path) -> Iterable[Finding]:
    """Runs that wait for a server; nothing where there are none."""
    from codejoule.tracking import Outbox

    said = (box.told() for box in Outbox.below(folder.absolute()))
    return [Finding("outbox", True, told) for told in said if told is not None]


def _installed(extra: str | None) -> Finding:
    """What an extra brings, or what every command needs (None)."""
    wanted = distributions(extra)
    found = installed_versions(wanted)
    missing = [name for name in wanted if name not in found]
    what = f"for {_purpose(extra)}" if extra else f"python {platform.python_version()}"
    shown = [f"{name} {number}" for name, number in found.items() if extra or name in _SHOWN]
    state = ", ".join(shown)
    if not wanted:
        state = "not known, since codejoule is not installed in this Python"
    elif missing:
        state = f"not installed: {', '.join(missing)}"
    elif not extra:
        state = f"all {len(wanted)} are installed, among them {state}"
    command = f"pip install 'codejoule[{extra}]'" if extra else "pip install codejoule"
    detail = f"{what}: {state}" if extra else f"{what} ({sys.executable}): {state}"
    item = f"extra {extra}" if extra else "packages"
    return Finding(item, bool(wanted) and not missing, detail, command, command=command)


def _hub() -> Finding:
    endpoint = _without_password(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        detail = f"{endpoint} is switched off by HF_HUB_OFFLINE: only cached models and suites"
        command = "unset HF_HUB_OFFLINE"
        return Finding("hub", False, detail, command, command=command)
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


def _tracking_server(uri: str) -> list[Finding]:
    """The server that runs are recorded in; nothing where it is none."""
    uri = _without_password(uri)
    if not uri.startswith(("http://", "https://")):
        return []
    problem = _unreachable(f"{uri}/health")
    said = f"{uri} answers" if problem is None else f"{uri}: {problem}"
    detail = f"{said} (for tracking=server)"
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
