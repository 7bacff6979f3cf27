"""The fixtures and programs of the sandbox's tests, for those of the verdicts."""

from tests.sandbox.conftest import config

__all__ = ["config"]
