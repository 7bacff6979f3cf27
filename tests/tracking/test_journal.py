"""The journal: what `append` has returned from is there, whatever happens next."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codejoule.config import UserError
from codejoule.tracking import Journal

KINDS = st.sampled_from(["window", "verdict", "plan"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.lists(
    st.tuples(KINDS, st.dictionaries(st.text(), VALUES, max_size=3)), min_size=1, max_size=5
)


def test_entries_come_back_by_kind_in_order(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append_payload("window", {"batch": 0})
        journal.append_payload("verdict", {"task_id": "a"})
        journal.append_payload("window", {"batch": 1})
        assert journal.payloads("window") == [{"batch": 0}, {"batch": 1}]
    with Journal(tmp_path) as journal:
        assert journal.payloads("window") == [{"batch": 0}, {"batch": 1}]
        assert journal.payloads("verdict") == [{"task_id": "a"}]
        assert journal.payloads("nothing") == []


@given(entries=ENTRIES)
def test_any_payload_comes_back_as_it_went_in(entries, tmp_path_factory):
    directory = tmp_path_factory.mktemp("journal")
    with Journal(directory) as journal:
        for kind, payload in entries:
            journal.append_payload(kind, payload)
        before = {kind: journal.payloads(kind) for kind, _ in entries}
    with Journal(directory) as journal:
        after = {kind: journal.payloads(kind) for kind, _ in entries}
    assert before == after
    assert [p for k, p in entries if k == "window"] == after.get("window", [])


@given(entries=ENTRIES, data=st.data())
def test_tail_torn_at_any_byte_is_repaired(entries, data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("journal")
    sizes = [0]
    with Journal(directory) as journal:
        for kind, payload in entries:
            journal.append_payload(kind, payload)
            sizes.append(journal.path.stat().st_size)
        path = journal.path
    cut = data.draw(st.integers(min_value=0, max_value=sizes[-1]))
    os.truncate(path, cut)
    whole = sum(size <= cut for size in sizes) - 1
    with Journal(directory) as journal:
        for kind in ("window", "verdict", "plan"):
            assert journal.payloads(kind) == [p for k, p in entries[:whole] if k == kind]
        assert path.stat().st_size == sizes[whole]
        journal.append_payload("plan", {"after": "repair"})
    with Journal(directory) as journal:
        assert journal.payloads("plan")[-1] == {"after": "repair"}


def test_repair_is_logged(tmp_path, caplog):
    with Journal(tmp_path) as journal:
        journal.append_payload("window", {"batch": 0})
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "win')
    with caplog.at_level(logging.WARNING):
        Journal(tmp_path).close()
    assert "dropped an unfinished last line of 13 bytes" in caplog.text


def test_last_line_of_zeros_after_a_power_cut_is_dropped(tmp_path):
    with Journal(tmp_path) as journal:
        journal.append_payload("window", {"batch": 0})
    with journal.path.open("ab") as file:
        file.write(b"\0" * 40 + b"\n")
    with Journal(tmp_path) as journal:
        assert journal.payloads("window") == [{"batch": 0}]


@pytest.mark.parametrize("damage", ['{"kind": "window", "pay', "", '{"kind": 1, "payload": {}}'])
def test_damage_in_the_middle_is_an_error_with_its_line(tmp_path, damage):
    with Journal(tmp_path) as journal:
        for batch in range(3):
            journal.append_payload("window", {"batch": batch})
    lines = journal.path.read_text().splitlines()
    lines[1] = damage
    journal.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"line 2 of 3 is damaged.*delete .* to run it afresh"):
        Journal(tmp_path)
    # The failed opening has not kept the directory.
    lines[1] = json.dumps({"kind": "window", "payload": {}})
    journal.path.write_text("\n".join(lines) + "\n")
    Journal(tmp_path).close()


def test_line_separators_of_unicode_do_not_end_a_line(tmp_path):
    text = "a\u2028b\x85c\x1cd\re\n"
    with Journal(tmp_path) as journal:
        journal.append_payload("window", {"text": text})
    with Journal(tmp_path) as journal:
        assert journal.payloads("window") == [{"text": text}]


def test_second_process_on_the_directory_is_told_the_pid(tmp_path):
    with Journal(tmp_path):
        child = _python(
            "import sys; from pathlib import Path; from codejoule.tracking import Journal\n"
            "Journal(Path(sys.argv[1]))",
            tmp_path,
        )
        _, errors = child.communicate(timeout=60)
        assert f"process {os.getpid()} is working on this run" in errors
        assert "UserError" in errors
    Journal(tmp_path).close()


def test_kill_in_mid_append_leaves_every_acknowledged_entry(tmp_path):
    child = _python(
        """
import sys
from pathlib import Path
from codejoule.tracking import Journal

journal = Journal(Path(sys.argv[1]))
for number in range(1_000_000):
    journal.append_payload("window", {"number": number, "text": "x" * 100_000})
    print(number, flush=True)
""",
        tmp_path,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 7:
            break
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate(timeout=60)
    acknowledged = int((rest.split() or [line])[-1])
    with Journal(tmp_path) as journal:
        numbers = [entry["number"] for entry in journal.payloads("window")]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) in (acknowledged + 1, acknowledged + 2)
        journal.append_payload("window", {"number": len(numbers)})


def test_full_disk_leaves_the_journal_as_it_was(tmp_path):
    child = _python(
        """
import resource, sys
from pathlib import Path
from codejoule.config import UserError
from codejoule.tracking import Journal

journal = Journal(Path(sys.argv[1]))
journal.append_payload("window", {"batch": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
try:
    journal.append_payload("window", {"text": "x" * 10_000})
except UserError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
journal.append_payload("window", {"batch": 1})
""",
        tmp_path,
    )
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert "cannot write to the run's journal" in output
    assert "start the same command again" in output
    with Journal(tmp_path) as journal:
        assert journal.payloads("window") == [{"batch": 0}, {"batch": 1}]


def _python(code: str, *arguments: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
