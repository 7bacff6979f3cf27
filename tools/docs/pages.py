"""The pages that are made anew for each build, so that they cannot fall behind the code."""

from collections.abc import Callable, Mapping

from tools.docs.commands import commands_page
from tools.docs.configuration import configuration_page
from tools.docs.python import python_page

GENERATED: Mapping[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/configuration.md": configuration_page,
    "reference/python.md": python_page,
}
"""What makes a page, by the page's path below ``docs/``."""
