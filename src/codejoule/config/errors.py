"""The error every wrong configuration ends in."""


class ConfigError(ValueError):
    """A configuration that cannot be run; the text says what, why and how to fix it."""


class UserError(RuntimeError):
    """Something outside the configuration that the user can put right (a missing download,
    a missing device); shown without a traceback."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
