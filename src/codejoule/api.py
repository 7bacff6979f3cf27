"""What codejoule offers to Python programs; ``import codejoule`` has the same names.

These names, their parameters and the fields of what they return are public: they change only with
an entry in CHANGELOG.md. All other modules are private and may change at any time, except for what
a page of the documentation shows (the extension points of the how-to pages among it).
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from codejoule.analysis import Analysis, Goal, Options, analyse, load_runs
from codejoule.cli.estimate.forecast import Forecast, forecast
from codejoule.config import ConfigError, UserError, default_store
from codejoule.config.compose import compose_experiment, compose_sweep
from codejoule.config.schema import EvaluatorConfig, MeterConfig, Order
from codejoule.domain import EnergyReading, Verdict
from codejoule.evaluation import Sample, judge_one
from codejoule.experiment.compile_caches import keep_compiled_code
from codejoule.experiment.run import RunFailedError
from codejoule.experiment.run import run as run_experiment
from codejoule.experiment.sweep import State, check_experiments
from codejoule.measurement import (
    Window,
    Work,
    at_work,
    detect_hardware,
    metered_devices,
    open_command_meter,
    open_cpu_meter,
)
from codejoule.sandbox import Sandbox
from codejoule.tracking import prepare_store

__all__ = [
    "Analysis",
    "ConfigError",
    "EnergyReading",
    "Forecast",
    "Run",
    "Sandbox",
    "UserError",
    "Verdict",
    "Window",
    "analyze",
    "judge",
    "measure",
    "predict",
    "run",
]


@contextmanager
def measure(*, idle_s: float = 0.0) -> Iterator[Window]:
    """Measure the energy and time of a block: of all visible GPUs, else of the CPU.

    The window's ``reading`` is there once the block has ended. It says how the energy was obtained
    (``source``: ``nvml``, ``rapl``, or ``estimate`` from the CPU time of this process and its
    children) and how far it is known (``uncertainty_j``). A GPU works on after the call that gave
    it work: end the block with ``torch.cuda.synchronize()``, or what is still to do is missing.

    Parameters
    ----------
    idle_s : float, optional
        Watch the idle power of the GPUs for at most so long before the block [s]; the reading then
        has ``energy_net_j`` too. 0 does not.

    Yields
    ------
    Window
        The block; ``mark(name)`` notes a moment of it.

    Raises
    ------
    UserError
        Where a GPU's counter cannot be read, or another process uses the GPU.

    Examples
    --------
    >>> import codejoule
    >>> with codejoule.measure() as window:
    ...     total = sum(range(10_000_000))
    >>> reading = window.reading
    >>> print(reading.energy_j, reading.source.value, reading.latency_s)
    """
    config = MeterConfig(idle_s=idle_s)
    hardware = detect_hardware()
    devices = metered_devices(config, hardware, range(len(hardware.gpus)))
    open_meter = open_command_meter if hardware.gpus else open_cpu_meter
    with at_work("codejoule.measure", Work.command, devices=devices), open_meter(config) as meter:
        meter.measure_idle()
        with meter.window("measure") as window:
            yield window


def judge(
    program: str, tests: str, *, timeout_s: float = 10.0, python: str | None = None
) -> Verdict:
    r"""Run a program against tests in the sandbox, and say whether it passes.

    Each call starts a sandbox. For many programs keep a `Sandbox` open and call its ``run``.

    Parameters
    ----------
    program : str
        Source of the program.
    tests : str
        Source of a ``unittest`` module with a class ``TestCases``, which sees the program's names.
    timeout_s : float, optional
        Longest run of the tests [s].
    python : str, optional
        Python that runs both, and has what they import; the running one unless given.

    Returns
    -------
    Verdict
        ``status``, ``reason`` and, in ``details``, the traceback of each test that failed.

    Raises
    ------
    UserError
        Where this machine does not let a sandbox isolate programs.

    Examples
    --------
    >>> import codejoule
    >>> tests = "import unittest\nclass TestCases(unittest.TestCase):\n"
    >>> tests += "    def test_two(self): self.assertEqual(double(2), 4)"
    >>> verdict = codejoule.judge("def double(x): return 2 * x", tests)
    >>> print(verdict.status.value, verdict.reason)
    """
    sample = Sample(task_id="program", sample=0, solution=program, code_prompt="", test=tests)
    return judge_one(sample, config=EvaluatorConfig(python=python), timeout_s=timeout_s)[0]


def predict(*overrides: str) -> Forecast:
    """Predict memory, time and energy of one configuration, before anything runs.

    Parameters
    ----------
    *overrides : str
        What ``codejoule estimate`` takes, e.g. ``"model=qwen_7b", "quant=gptq4", "gpu=l40s"``.

    Returns
    -------
    Forecast
        ``fits``, ``memory``, ``largest_batch``, ``generation`` (time and energy of one batch) ...

    Raises
    ------
    ConfigError
        For a configuration that is wrong, or a model that the estimator does not know.

    Examples
    --------
    >>> import codejoule
    >>> found = codejoule.predict("model=qwen_7b", "quant=gptq4", "gpu=l40s", "batch=b8")
    >>> print(found.fits, found.memory.total_bytes, found.largest_batch)
    >>> if found.generation is not None:
    ...     print(found.generation.ttft_s, found.generation.tpot_s, found.generation.decode_j)
    """
    return forecast(compose_experiment(overrides))


def analyze(
    tracking_uri: str | None = None,
    *,
    experiment: str = "codejoule",
    where: str | None = None,
    sweep: str | None = None,
    min_pass_at_1: float | None = None,
    max_kwh: float | None = None,
) -> Analysis:
    """Compare the finished runs of an experiment, as ``codejoule analyze`` does.

    Parameters
    ----------
    tracking_uri : str, optional
        ``sqlite:///PATH/mlflow.db`` or a server's address; unless given, ``mlruns/mlflow.db``
        below ``CODEJOULE_HOME`` or the current folder.
    experiment : str, optional
        MLflow experiment.
    where : str, optional
        Only some runs, in MLflow's search syntax.
    sweep : str, optional
        Only the jobs of this sweep, by its name or id.
    min_pass_at_1, max_kwh : float, optional
        What a configuration is wanted for: pass@1 that it must reach, or energy that a run may
        take [kWh]. Unless given: least energy per correct program.

    Returns
    -------
    Analysis
        Its ``groups`` hold runs that can be compared, each with an ``answer``, ``findings`` and
        ``tables``.

    Raises
    ------
    UserError
        For a store, an experiment or a filter that is not there or not valid.

    Examples
    --------
    >>> import codejoule
    >>> analysis = codejoule.analyze("sqlite:///mlruns/mlflow.db", experiment="codejoule")
    >>> for group in analysis.groups:
    ...     print(group.answer.sentence)
    """
    uri = default_store() if tracking_uri is None else tracking_uri
    goal = Goal(min_pass_at_1=min_pass_at_1, max_kwh=max_kwh)
    return analyse(load_runs(uri, experiment, where=where, sweep=sweep), Options(goal=goal))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that has finished."""

    name: str
    """Its name, e.g. ``starter-gptq8-b1``."""
    run_id: str
    """MLflow's id of it."""
    tracking_uri: str
    """The store that has it."""
    skipped: bool
    """Whether it had finished before, so that nothing was run now."""
    metrics: Mapping[str, float]
    """Its figures by name, e.g. ``energy_generation_j``; what was not measured is absent."""


def run(*overrides: str) -> list[Run]:
    """Run one configuration or a grid of them, and record each in MLflow.

    All configurations are checked before the first one starts. The first that fails ends the call;
    those before it are kept, and the same call continues after them.

    Parameters
    ----------
    *overrides : str
        What ``codejoule run -m`` takes, e.g. ``"model=starter", "quant=none,gptq8"``.

    Returns
    -------
    list of Run
        In the order in which they ran.

    Raises
    ------
    ConfigError
        For a configuration that is wrong.
    UserError
        Where something outside is: the store, the hub, the GPU, another process with the same run.

    Examples
    --------
    >>> import codejoule
    >>> runs = codejoule.run("model=starter", "batch=b1,b8", "suite.limit=2")
    >>> for run in runs:
    ...     print(run.name, run.metrics["energy_per_task_j"], run.metrics["pass_at_1"])
    """
    experiments = compose_sweep(overrides)
    check_experiments(experiments)
    if experiments[0].sweep.order is Order.shuffled:
        random.Random(experiments[0].sweep.seed).shuffle(experiments)
    keep_compiled_code()
    runs = []
    for experiment in experiments:
        try:
            outcome = run_experiment(experiment, sweep=None)
        except RunFailedError as error:
            raise error.__cause__ or error from None
        assert outcome.run_id is not None
        store = prepare_store(experiment.tracking)
        # Kept in the outbox where a server did not answer.
        ((uri, ids),) = store.located([outcome.run_id]).items() or ((store.uri, {outcome.run_id}),)
        runs.append(
            Run(
                name=outcome.name,
                run_id=next(iter(ids)),
                tracking_uri=uri,
                skipped=outcome.state is State.skipped,
                metrics=store.metrics(outcome.run_id),
            )
        )
    return runs
