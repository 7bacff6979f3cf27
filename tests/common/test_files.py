import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.common import files
from codejoule.common.files import parse_json, parse_row, read_bytes, read_lines
from codejoule.config import ConfigError


def lines(path: Path) -> list[bytes]:
    return [line for _, line in read_lines(path, "samples")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_lines_come_with_their_number_and_without_blank_ones(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, b"a\r\n\n \nb\xe2\x80\xa8c\x0cd\ne"
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(read_lines(path, "samples")) == [
        (f"{path}, line 1", b"a\r\n"),
        (f"{path}, line 4", b"b\xe2\x80\xa8c\x0cd\n"),
        (f"{path}, line 5", b"e"),
    ]


def bomb(path: Path, size_bytes: int, byte: bytes = b"0") -> Path:
    with gzip.open(path, "wb") as stream:
        for _ in range(size_bytes // 2**20):
            stream.write(byte * 2**20)
    return path


def test_a_long_line_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.jsonl.gz", 2 * files.MOST_LINE_BYTES)
    assert path.stat().st_size < 2**18
    with pytest.raises(ConfigError, match=r"a\.jsonl\.gz, line 1: larger than 32 MiB, the most"):
        lines(path)


@pytest.mark.parametrize("read", [lines, lambda path: read_bytes(path, "results")])
def test_a_large_file_is_refused_by_what_it_unpacks_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 2**16)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"x\n" * 2**15))
    read(path)
    path.write_bytes(gzip.compress(b"x\n" * 2**15 + b"\n"))
    with pytest.raises(ConfigError, match=r"a\.gz: larger than 0\.0625 MiB"):
        read(path)


def special(path: Path, kind: str) -> Path:
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    return path


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = special(tmp_path / "a.jsonl", kind)
    for read in (lines, lambda path: read_bytes(path, "samples")):
        with pytest.raises(ConfigError, match=rf"a\.jsonl: a .*{kind}.*, not a file of samples"):
            read(path)


def test_a_file_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.jsonl: no such file of samples"):
        lines(tmp_path / "none.jsonl")
    whole = gzip.compress(os.urandom(9999))
    for damaged in (b"plain", whole[:-9], whole[:99] + b"\xff" * 99 + whole[198:]):
        (tmp_path / "a.gz").write_bytes(damaged)
        with pytest.raises(ConfigError, match=r"a\.gz: not a whole gzip file"):
            lines(tmp_path / "a.gz")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1},', "line 1: not JSON: .*; lines have no comma between them"),
        ("[", r"line 1: not JSON: .*; the file is a JSON array: .* \(jq -c '\.\[\]' FILE\)"),
        ('[{"a": 1}]', "line 1: a row must be a JSON object, not a list; the file is a JSON array"),
        ("{", r"line 1: not JSON: .*; write each object on one line \(jq -c \. FILE\)"),
        ('{"a": 1, }', "line 1: not JSON: .*; JSON has no comma before a closing bracket"),
        ('"a"', "line 1: a row must be a JSON object, not a str"),
        ("{'a': 1}", "line 1: not JSON: Expecting property name"),
        ('{"a": ' + "[" * 99999 + "}", "line 1: not JSON that can be read: nested too deeply"),
        ('{"a": ' + "9" * 9999 + "}", "line 1: Exceeds the limit"),
        ('{"a": "\udcff"}', r"line 1: not UTF-8 \(byte 8 of the line\)"),
    ],
)
def test_what_is_nearly_json_lines_is_told_what_it_lacks(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_row("line 1", text.encode("utf-8", "surrogateescape"))


def test_marks_and_breaks_around_a_row_are_no_part_of_it() -> None:
    for line in (b'\xef\xbb\xbf{"a": 1}\r\n', b' {"a": 1} \n', b'{"a": 1}'):
        assert parse_row("line 1", line) == {"a": 1}


keys = st.sampled_from(["solution", "task_id", "a", "\u00e9"])
objects = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(keys, inner), max_size=4).map(dict)
    ),
    max_leaves=8,
)


@given(objects, keys, st.integers(0, 3))
def test_a_key_that_stands_twice_is_refused_by_name_however_deep(
    value: object, key: str, depth: int
) -> None:
    once = json.dumps(value)
    assert parse_json("x", once.encode()) == value
    twice = f'{{"b": 0, "{key}": {once}, "{key}": {once}}}'
    for _ in range(depth):
        twice = f'{{"c": [{twice}]}}'
    with pytest.raises(ConfigError, match=f"x: the key '{key}' stands twice in one object"):
        parse_json("x", twice.encode())
