"""The kinds of values, the operations between them, and inputs of every kind."""

import csv
import io
import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from ipaddress import IPv4Address
from typing import Any

from tools.starter.suite import cryptography, numbers, strings, system
from tools.starter.suite.operation import Operation

OPERATIONS: tuple[Operation, ...] = (
    *numbers.FILTERS_AND_MAPS,
    *numbers.SUMMARIES,
    *numbers.PICTURES,
    *strings.WORDS,
    *strings.COUNTS,
    *strings.TEXTS,
    *system.FILES,
    *system.DAYS,
    *system.NETWORK,
    *cryptography.BYTES,
)
"""Every operation of the grammar."""

RETURNS = {
    "values": ("list", "The resulting values."),
    "words": ("list", "The resulting words."),
    "keys": ("list", "The resulting keys."),
    "pairs": ("list", "The resulting pairs."),
    "counts": ("dict", "The counts."),
    "number": ("int", "The resulting number."),
    "real": ("float", "The resulting number."),
    "text": ("str", "The resulting text."),
}
"""Kinds that a program may end in: their Python type and what the docstring says of them."""

VARIABLES = {kind: kind for kind in ("values", "words", "text", "files", "days", "parts", "ips",
                                     "rows", "counts", "colours", "data", "codes")}  # fmt: skip
VARIABLES |= dict.fromkeys(("number", "real", "keys", "pairs"), "result")

_WORDS = """
    apple Banana cherry delta Echo forest garden hill Iris jungle kite Lemon mango night ocean
    piano Queen river stone Tiger uncle violet water Xenon yellow zebra ant bee Cat dog eel fox
    gnu hen ice jar key log map net oak pen rat sun tea urn van wax yak zoo to of in at by we
    star moon tree rain wind sand leaf rock bird fish planet window bridge market silver copper
    orange purple letter number summer winter harbour mountain breakfast telephone afternoon
"""
_POOL = tuple(_WORDS.split())
_NAMES = ("Ada", "Ben", "Carla", "Dora", "Eric", "Fiona", "Gustav", "Hanna", "Ivan", "Jon")
_CITIES = ("Oslo", "Rome", "Lima", "Paris", "Quito", "Delhi")


@dataclass(frozen=True, slots=True)
class Source:
    """What a program takes: parameter names, type, description and a way to draw inputs."""

    names: tuple[str, ...]
    type: str
    description: str
    draw: Callable[..., Any]


def _numbers(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[int]:
    drawn = [rng.randint(-9, 60) for _ in range(size)]
    for place in range(size):
        roll = rng.random()
        if hints and roll < 0.25:
            drawn[place] = rng.choice(hints) + rng.randint(-1, 1)
        elif roll < 0.4:
            drawn[place] = rng.choice(drawn)
    return drawn


def _words(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[str]:
    drawn = [rng.choice(_POOL) for _ in range(size)]
    return [rng.choice(drawn) if rng.random() < 0.25 else word for word in drawn]


def _text(rng: random.Random, size: int, hints: tuple[int, ...]) -> str:
    pieces = []
    for word in _words(rng, size, hints):
        roll = rng.random()
        if size > 4 and roll < 0.2:
            word = str(rng.randint(0, 99))
        pieces.append(word + rng.choice((" ",) * 5 + (", ", "; ", "-", "  ", ". ")))
    return "".join(pieces).strip()


def _dates(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[str]:
    start = date(rng.randint(2019, 2024), rng.randint(1, 12), rng.randint(1, 28))
    spread = rng.choice((20, 90, 900))
    days = [start + timedelta(days=rng.randint(0, spread)) for _ in range(size)]
    for place in range(size):
        if rng.random() < 0.15:
            days[place] = rng.choice(days)
    return [d.isoformat() for d in days]


def _urls(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[str]:
    links = []
    for _ in range(size):
        scheme = rng.choice(("https", "https", "http", "ftp"))
        host = rng.choice(("a", "docs", "shop", "www")) + rng.choice(
            (".moon.org", ".tree.com", ".sand.net", ".rock.io")
        )
        port = f":{rng.choice((80, 443, 8080))}" if rng.random() < 0.3 else ""
        path = "/" + "/".join(rng.choice(_POOL) for _ in range(rng.randint(1, 2)))
        fields = rng.choice((0, 0, 1, 2, 3)) if size > 3 else rng.choice((0, 1))
        query = "&".join(f"{rng.choice('xyz')}={rng.randint(1, 9)}" for _ in range(fields))
        links.append(f"{scheme}://{host}{port}{path}" + (f"?{query}" if query else ""))
    return links


def _addresses(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[str]:
    bases = ("10.0.0.0", "192.168.0.0", "172.16.0.0", "8.8.0.0", "93.184.0.0")
    drawn = [
        str(IPv4Address(rng.choice(bases)) + rng.randint(0, 3) * 256 + rng.randint(1, 240))
        for _ in range(size)
    ]
    return [rng.choice(drawn) if rng.random() < 0.2 else address for address in drawn]


def _paths(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[str]:
    folders = ("src", "docs", "tmp/logs", "home/ada", "a/b/c", "data")
    suffixes = (".py", ".txt", ".csv", ".log", ".md")
    return [
        f"{rng.choice(folders)}/{rng.choice(_POOL).lower()}{rng.choice(suffixes)}"
        for _ in range(size)
    ]


def _rows(rng: random.Random, size: int) -> list[dict[str, str | int]]:
    return [
        {"name": rng.choice(_NAMES), "city": rng.choice(_CITIES)}
        | {field: rng.randint(5, 60) for field in ("age", "score")}
        for _ in range(min(max(1, size - 1), 8))
    ]


def _payload(rng: random.Random, size: int, hints: tuple[int, ...]) -> str:
    return json.dumps(_rows(rng, size))


def _table(rng: random.Random, size: int, hints: tuple[int, ...]) -> str:
    rows = _rows(rng, size)
    page = io.StringIO()
    writer = csv.DictWriter(page, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return page.getvalue()


def _codes(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[int]:
    known = (200, 201, 204, 301, 302, 304, 400, 401, 403, 404, 410, 500, 502, 503)
    return [rng.choice(known) for _ in range(size)]


def _data(rng: random.Random, size: int, hints: tuple[int, ...]) -> bytes:
    return _text(rng, max(1, size // 2), hints).encode()


def _colours(rng: random.Random, size: int, hints: tuple[int, ...]) -> list[tuple[float, ...]]:
    return [tuple(rng.randint(0, 8) / 8 for _ in range(3)) for _ in range(min(size, 6))]


def _counts(rng: random.Random, size: int, hints: tuple[int, ...]) -> dict[str, int]:
    return {word: rng.randint(1, 6) for word in _words(rng, size, hints)}


SOURCES: dict[str, Source] = {
    "values": Source(("values", "numbers", "scores"), "list", "The whole numbers.", _numbers),
    "words": Source(("words", "names", "labels"), "list", "The words.", _words),
    "text": Source(("text", "sentence", "message"), "str", "The text.", _text),
    "dates": Source(("dates", "stamps"), "list", "The dates in ISO format.", _dates),
    "urls": Source(("urls", "links"), "list", "The links.", _urls),
    "addresses": Source(("addresses", "hosts"), "list", "The IPv4 addresses.", _addresses),
    "paths": Source(("paths", "locations"), "list", "The paths.", _paths),
    "payload": Source(("payload", "document"), "str", "The JSON text.", _payload),
    "table": Source(("table", "sheet"), "str", "The CSV text.", _table),
    "data": Source(("data", "blob"), "bytes", "The bytes.", _data),
    "colours": Source(("colours", "palette"), "list", "The RGB colours from 0 to 1.", _colours),
    "counts": Source(("counts", "totals"), "dict", "The counts by key.", _counts),
    "codes": Source(("codes", "statuses"), "list", "The HTTP status codes.", _codes),
}
"""Kinds that a program may start from."""

OPENERS = ("dates", "urls", "addresses", "paths", "payload", "table")
"""Kinds of raw input that one operation must first parse."""


def _by_kind(operations: Iterable[Operation]) -> dict[str, tuple[Operation, ...]]:
    kinds: dict[str, list[Operation]] = {}
    for operation in operations:
        kinds.setdefault(operation.takes, []).append(operation)
    return {kind: tuple(found) for kind, found in kinds.items()}


BY_KIND: dict[str, tuple[Operation, ...]] = _by_kind(OPERATIONS)
"""Operations that take each kind."""
