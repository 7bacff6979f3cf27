"""What isolation this machine offers."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import EvaluatorConfig
from codejoule.sandbox.interpreter import describe_interpreter
from codejoule.sandbox.launch import Launcher, choose_launcher, find_bubblewrap
from codejoule.sandbox.sandbox import HOW_TO_ENABLE, SandboxFacts, Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSupport:
    """What was found by trying."""

    ok: bool
    """Whether samples can be judged here."""
    detail: str
    """One line: how they are isolated, or why they cannot be."""
    fix: str | None
    """What to do where they cannot be, or to be isolated better."""
    root: bool
    """Whether this process is root."""
    bubblewrap: str | None
    """Version of bubblewrap, None where it is not installed."""
    isolation: str | None
    """What was in force around a sample, in words; None where none could run."""
    user_namespaces: bool
    """Whether samples live in user namespaces; else root's rights are given up per sample."""
    seccomp: bool
    """Whether the kernel filters system calls; the sandbox does not start without."""
    cgroup: str | None
    """``v2 (controllers)`` or ``v1``. Not needed: memory is watched, CPU time counted, per
    process."""


def sandbox_support(config: EvaluatorConfig) -> SandboxSupport:
    """Start one worker the way `judge` would and report what it could and could not do; never
    raises for what is missing."""
    bubblewrap = _bubblewrap_version()
    root = os.geteuid() == 0
    problem, fix, facts = None, None, None
    try:
        facts = _try(config)
    except (UserError, ConfigError) as error:
        problem, _, remedy = str(error).partition(f". {HOW_TO_ENABLE[:20]}")
        fix = HOW_TO_ENABLE if remedy else "set evaluator.python to a working interpreter"
    if facts is not None and bubblewrap is None:
        fix = "optional: install bubblewrap, whose set-up is reviewed by more eyes than ours"
    return SandboxSupport(
        ok=facts is not None,
        detail=problem or _describe(bubblewrap, root, facts),
        fix=fix,
        root=root,
        bubblewrap=bubblewrap,
        isolation=None if facts is None else ", ".join(facts.primitives),
        user_namespaces=facts is not None and facts.user_namespace,
        seccomp=Path("/proc/sys/kernel/seccomp/actions_avail").exists(),
        cgroup=_cgroup(),
    )


def _try(config: EvaluatorConfig) -> SandboxFacts:
    interpreter = describe_interpreter(config.python)
    worker = Worker(config, interpreter, choose_launcher(None, config.isolation), preimport=())
    try:
        return worker.start()
    finally:
        worker.stop()


def _describe(bubblewrap: str | None, root: bool, facts: SandboxFacts | None) -> str:
    assert facts is not None
    launcher = f"{Launcher.bubblewrap.value} {bubblewrap}" if bubblewrap else "namespaces alone"
    who = "root" if root else "an ordinary user"
    how = "in user namespaces" if facts.user_namespace else "without user namespaces"
    python = ".".join(map(str, facts.python))
    return f"{launcher}, started by {who}, samples {how} as nobody, Python {python}"


def _bubblewrap_version() -> str | None:
    path = find_bubblewrap()
    if path is None:
        return None
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().rpartition(" ")[2]


def _cgroup() -> str | None:
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if controllers.exists():
        return f"v2 ({controllers.read_text(encoding='ascii').strip()})"
    return "v1" if Path("/sys/fs/cgroup").is_dir() else None
