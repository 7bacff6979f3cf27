import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.config import UserError
from codejoule.measurement.hardware import visible_gpus

UUIDS = ("GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("-1", ()),
        ("2,0", (2, 0)),
        (" 2 , 0 ", (2, 0)),
        ("1,9,0", (1,)),
        ("0,-1,1", (0,)),
        ("GPU-cccc-3,GPU-aaaa", (2, 0)),
        ("GPU-zzzz,0", ()),
        ("nonsense", ()),
    ],
)
def test_visible_gpus_follow_cudas_rules(setting: str | None, expected: tuple[int, ...]) -> None:
    assert visible_gpus(setting, UUIDS) == expected


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("0,MIG-1", "MIG-1 is a MIG slice"),
        ("GPU-aa", "GPU-aa fits GPUs 0 and 1; write more of the UUID"),
        ("1,1", "names GPU 1 twice"),
        ("1,GPU-aabb", "names GPU 1 twice"),
    ],
)
def test_settings_that_cannot_be_measured_are_errors(setting: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        visible_gpus(setting, UUIDS)


@given(st.permutations(range(3)), st.lists(st.booleans(), min_size=3, max_size=3))
def test_index_and_uuid_name_the_same_gpu(order: list[int], by_uuid: list[bool]) -> None:
    entries = [UUIDS[i] if uuid else str(i) for i, uuid in zip(order, by_uuid, strict=True)]
    assert visible_gpus(",".join(entries), UUIDS) == tuple(order)
