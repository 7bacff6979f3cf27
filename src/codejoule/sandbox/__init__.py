"""The sandbox: runs a program against tests, isolated, and says what happened."""

from codejoule.sandbox.interpreter import describe_interpreter
from codejoule.sandbox.sandbox import Execution, Sandbox, SandboxFacts

__all__ = [
    "Execution",
    "Sandbox",
    "SandboxFacts",
    "describe_interpreter",
]
