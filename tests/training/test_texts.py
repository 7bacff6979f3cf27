"""Texts of one's own are read, and what is none is refused by its line."""

from pathlib import Path

import pytest

from codejoule.config import ConfigError
from codejoule.training import Example, read_examples


def test_a_text_is_learnt_as_a_whole_and_a_completion_after_its_prompt(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a = 1"}\n{"prompt": "b =", "completion": " 2"}\n')
    assert read_examples(file) == [
        Example(prompt="", completion="a = 1"),
        Example(prompt="b =", completion=" 2"),
    ]


@pytest.mark.parametrize("line", ['{"prompt": "b ="}', '{"text": ""}', '{"text": 3}'])
def test_a_line_without_a_text_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(f'{{"text": "a"}}\n{line}\n')
    with pytest.raises(ConfigError, match=r"texts\.jsonl, line 2: not a text to learn"):
        read_examples(file)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"finetune\.data=.*no such file"):
        read_examples(tmp_path / "none.jsonl")
