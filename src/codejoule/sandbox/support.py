"""What isolation this machine offers."""

import os
from dataclasses import dataclass

from codejoule.config import ConfigError, UserError
from codejoule.config.schema import EvaluatorConfig
from codejoule.sandbox.execution import SandboxFacts
from codejoule.sandbox.sandbox import HOW_TO_ENABLE, Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSupport:
    """What was found by trying."""

    ok: bool
    """Whether programs can be run here."""
    detail: str
    """One line: how they are isolated, or why they cannot be."""
    fix: str | None
    """What to do where they cannot be."""
    seccomp: bool
    """Whether the kernel filters their system calls."""


def sandbox_support(config: EvaluatorConfig) -> SandboxSupport:
    """Start a sandbox the way `judge` would and report what it could and could not do; never
    raises for what is missing."""
    try:
        with Sandbox(config) as sandbox:
            facts = sandbox.start()
    except (UserError, ConfigError) as error:
        problem, _, remedy = str(error).partition(f". {HOW_TO_ENABLE}")
        fix = HOW_TO_ENABLE if remedy else "set evaluator.python to a working interpreter"
        return SandboxSupport(ok=False, detail=problem, fix=fix, seccomp=False)
    return SandboxSupport(
        ok=True, detail=_describe(facts), fix=None, seccomp="seccomp" in facts.primitives
    )


def _describe(facts: SandboxFacts) -> str:
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    how = "in user namespaces" if facts.user_namespace else "without user namespaces"
    python = ".".join(map(str, facts.python))
    return f"namespaces, started by {who}, samples {how} as nobody, Python {python}"
