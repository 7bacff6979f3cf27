"""What stands for verdicts in memory: where they are in a file, and what counts of them."""

import hashlib

from codejoule.common.packed import Packed
from codejoule.domain import Status, Verdict
from codejoule.evaluation.places import Places


def test_every_key_is_found_where_it_was_put_last() -> None:
    keys = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(5000)]
    places = Places()
    for number, key in enumerate(keys):
        places.put(key, number)
    places.put(keys[7], 9000)
    assert all(places.find(key)[0] == number for number, key in enumerate(keys) if number != 7)
    assert places.find(keys[7]) == [9000, 7]
    assert places.find("0" * 32) == []


def test_keys_that_begin_alike_are_both_told() -> None:
    places = Places()
    places.put("ab" * 8 + "0" * 16, 1)
    places.put("ab" * 8 + "1" * 16, 2)
    assert places.find("ab" * 8 + "0" * 16) == [2, 1]


def test_an_outcome_is_the_verdict_without_its_details() -> None:
    verdicts = [
        Verdict(
            task_id=f"t/{number % 3}", sample=number, status=status, reason=status.value,
            evaluation_s=0.5, evaluation_cpu_s=0.25, memory_peak_bytes=peak, base=base,
        )
        for number, (status, peak, base) in enumerate(
            [
                (Status.passed, None, None),
                (Status.failed, 2**40, Status.passed),
                (Status.unjudged, 0, Status.timeout),
            ]
        )
    ]  # fmt: skip
    packed = Packed(Verdict, verdicts, without=("details", "tests"))
    assert list(packed) == verdicts == [packed[place] for place in range(3)]
    assert list(Packed(Verdict, [])) == []
