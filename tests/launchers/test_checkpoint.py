"""A job that is queued again is sent as it was sent first."""

import pickle
import threading

import pytest

from hydra_plugins.codejoule_launchers._job import RemoteJob


def test_what_a_job_has_opened_meanwhile_does_not_keep_it_from_being_queued_again() -> None:
    pytest.importorskip("submitit", reason="pip install 'codejoule[cluster]'")
    # Here, since Hydra's scan of its plugins loads their modules anew.
    from hydra_plugins.codejoule_launchers.slurm import _OnNode

    job = RemoteJob(
        hydra_context=None, task_function=print, config=None, overrides=["batch=b4"],  # type: ignore[arg-type]
        number=3, environment={"CODEJOULE_X": "1"}, _state={},
    )  # fmt: skip
    sent = _OnNode(job, 120)
    job._state["opened while it ran"] = threading.RLock()
    again = pickle.loads(pickle.dumps(sent.checkpoint().function))
    found = pickle.loads(again.job)
    assert (found.number, found.overrides, found._state) == (3, ["batch=b4"], {})
    assert again.notice_s == 120
