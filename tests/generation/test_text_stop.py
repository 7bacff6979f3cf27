from hypothesis import given
from hypothesis import strategies as st

from codejoule.domain import FinishReason
from codejoule.generation.text_stop import TextStop


def read(stop: TextStop, *pieces: str) -> str:
    """Feed all pieces, as an engine that does not stop would; what is left of their text."""
    for piece in pieces:
        stop.feed(piece)
    return "".join(pieces)[: stop.kept]


def test_text_is_cut_before_the_first_of_the_stop_strings() -> None:
    stop = TextStop(prompt="", strings=["\ndef ", "\nclass "])
    assert read(stop, "a\nclass B\ndef c") == "a"
    assert stop.reason is FinishReason.stop


def test_a_stop_string_is_found_across_pieces() -> None:
    stop = TextStop(prompt="", strings=["\nprint("])
    assert [stop.feed(piece) for piece in ("x", "\n", "pri", "nt", "(1)")] == [False] * 4 + [True]
    assert stop.kept == 1


def test_a_stop_string_may_begin_in_the_prompt() -> None:
    assert read(TextStop(prompt='"""doc"""\n', strings=["\ndef "]), "def g(): pass") == ""


def test_a_stop_string_within_the_prompt_alone_cuts_nothing() -> None:
    stop = TextStop(prompt="\ndef f():\n", strings=["\ndef "])
    assert read(stop, "x = 1") == "x = 1"
    assert stop.reason is None


def test_what_comes_after_the_end_changes_nothing() -> None:
    stop = TextStop(prompt="", strings=["b", "a"])
    assert read(stop, "xb", "a", "b") == "x"


def test_where_nothing_can_end_it_it_says_so() -> None:
    assert not TextStop(prompt="", strings=[]).in_force
    assert TextStop(prompt="", strings=["a"]).in_force
    assert TextStop(prompt="", strings=[], program_end=lambda piece: None).in_force


class EndsAfter:
    """A rule for the program's end: after so many characters, known some later."""

    def __init__(self, characters: int, *, known_after: int) -> None:
        self._characters, self._known_after, self._seen = characters, known_after, 0

    def __call__(self, piece: str) -> int | None:
        self._seen += len(piece)
        return self._characters if self._seen >= self._known_after else None


def test_a_complete_program_ends_the_text_where_it_ends() -> None:
    stop = TextStop(prompt="", strings=["!"], program_end=EndsAfter(3, known_after=5))
    assert [stop.feed(piece) for piece in ("ab", "cd", "ef")] == [False, False, True]
    assert (stop.kept, stop.reason) == (3, FinishReason.complete)


def test_of_a_stop_string_and_a_complete_program_the_earlier_cut_counts() -> None:
    early = TextStop(prompt="", strings=["b"], program_end=EndsAfter(3, known_after=5))
    assert read(early, "abcdef") == "a"
    assert early.reason is FinishReason.stop
    late = TextStop(prompt="", strings=["e"], program_end=EndsAfter(3, known_after=5))
    assert read(late, "abcdef") == "abc"
    assert late.reason is FinishReason.complete


TEXT = st.text(alphabet="ab\n", max_size=12)
STRINGS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4))


@given(prompt=TEXT, pieces=st.lists(TEXT, max_size=5), strings=STRINGS)
def test_the_first_stop_string_to_be_complete_cuts_however_the_text_comes(
    prompt: str, pieces: list[str], strings: list[str]
) -> None:
    left = read(TextStop(prompt=prompt, strings=strings), *pieces)
    text = "".join(pieces)
    whole, edge = prompt + text, len(prompt)
    # Every match that ends beyond the prompt, by hand.
    matches = [
        (begin + len(string), begin)
        for string in strings
        for begin in range(len(whole) - len(string) + 1)
        if whole.startswith(string, begin) and begin + len(string) > edge
    ]
    expected = max(0, min(matches)[1] - edge) if matches else len(text)
    assert left == text[:expected]
