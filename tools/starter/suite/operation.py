"""One operation of the starter grammar: a phrase of a docstring and a line of Python."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Value = int | str
Parameter = Callable[[random.Random], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A typed step; `expression` and `phrases` are templates over `{x}` and the parameters."""

    name: str
    """Unique name, e.g. ``keep_above``."""
    takes: str
    """Kind of value it works on, e.g. ``values``."""
    gives: str
    """Kind of value it yields."""
    expression: str
    """Python expression; ``{x}`` is the variable, other fields are parameters."""
    phrases: tuple[str, ...]
    """Ways to ask for it in words."""
    imports: tuple[str, ...] = ()
    """Import statements it needs."""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    """How each parameter is drawn."""
    rare: bool = False
    """Drawn a quarter as often as others."""


@dataclass(frozen=True, slots=True)
class Step:
    """An operation with its parameters chosen, and the phrase that asks for it."""

    operation: Operation
    arguments: tuple[tuple[str, Value], ...]
    phrase: int = 0

    def expression(self, variable: str) -> str:
        """Python source of this step applied to `variable`."""
        shown = {name: repr(value) for name, value in self.arguments}
        return self.operation.expression.format(x=variable, **shown)

    def words(self) -> str:
        """The step as a request in words."""
        shown = {name: repr(value) for name, value in self.arguments}
        return self.operation.phrases[self.phrase].format(**shown)

    def function(self) -> Callable[[Any], Any]:
        """This step as a function of its input."""
        return _compiled(self.expression("x"), self.operation.imports)


@cache
def _compiled(expression: str, imports: tuple[str, ...]) -> Callable[[Any], Any]:
    namespace: dict[str, Any] = {}
    exec("\n".join(imports), namespace)
    function: Callable[[Any], Any] = eval(f"lambda x: {expression}", namespace)
    return function


def draw_step(operation: Operation, *, rng: random.Random) -> Step:
    """An operation with parameters and phrase drawn from `rng`."""
    arguments = tuple((name, draw(rng)) for name, draw in operation.parameters.items())
    return Step(operation, arguments, rng.randrange(len(operation.phrases)))


def integer(low: int, high: int) -> Parameter:
    """A whole number from `low` to `high`, both included."""
    return lambda rng: rng.randint(low, high)


def choice(*options: str) -> Parameter:
    """One of `options`."""
    return lambda rng: rng.choice(options)


def operation(
    name: str,
    kinds: str,
    expression: str,
    *phrases: str,
    needs: tuple[str, ...] | str = (),
    rare: bool = False,
    **parameters: Parameter,
) -> Operation:
    """An `Operation` in one line; `kinds` reads ``"takes -> gives"``."""
    takes, gives = kinds.split(" -> ")
    return Operation(
        name=name,
        takes=takes,
        gives=gives,
        expression=expression,
        phrases=phrases,
        imports=(needs,) if isinstance(needs, str) else needs,
        parameters=parameters,
        rare=rare,
    )
