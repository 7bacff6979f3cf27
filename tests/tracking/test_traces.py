"""Traces of tasks in a real store."""

import dataclasses
import json

import pytest
from mlflow.tracking import MlflowClient

from codejoule.config import UserError
from codejoule.tracking import TaskTrace, spread
from codejoule.tracking.traces import TEXT_LENGTH

PASSED = TaskTrace(
    task_id="BigCodeBench/13",
    sample=0,
    prompt="def double(x):\n",
    answer="    return 2 * x\n",
    prompt_tokens=5,
    output_tokens=7,
    start_s=1_700_000_000.25,
    latency_s=1.5,
    energy_j=12.3456,
    verdict="pass",
    reason=None,
)
FAILED = dataclasses.replace(
    PASSED, sample=1, answer="x" * 20_000, verdict="timeout", reason="more than 10 s"
)
UNKNOWN = dataclasses.replace(PASSED, task_id="7", energy_j=None, verdict=None)


@pytest.fixture
def run(store):
    return store.start_run(name="a", parent_run_id=None, tags={}, params={})


def traces_of(store, run):
    client = MlflowClient(store.uri)
    found = client.search_traces(locations=[store.experiment_id], run_id=run.run_id)
    return {trace.info.tags["mlflow.traceName"]: trace for trace in found}


def test_trace_says_what_was_asked_answered_spent_and_judged(store, run):
    run.log_traces([PASSED, FAILED, UNKNOWN], model="starter")
    traces = traces_of(store, run)
    assert set(traces) == {"BigCodeBench/13", "BigCodeBench/13 #1", "7"}
    passed = traces["BigCodeBench/13"]
    assert passed.info.request_time == 1_700_000_000_250
    assert passed.info.execution_duration == 1500
    assert passed.info.token_usage == {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
    (span,) = passed.data.spans
    assert span.inputs == {"prompt": PASSED.prompt}
    assert span.outputs == PASSED.answer
    assert span.attributes["energy_j"] == 12.3456
    assert passed.info.tags["energy_j"] == "12.35"
    (feedback,) = passed.info.assessments
    assert (feedback.name, feedback.value) == ("pass", True)
    failed = traces["BigCodeBench/13 #1"]
    (feedback,) = failed.info.assessments
    assert feedback.value is False
    assert feedback.rationale == "timeout: more than 10 s"
    assert len(failed.data.spans[0].outputs) == TEXT_LENGTH
    assert "energy_j" not in traces["7"].info.tags
    assert traces["7"].info.assessments == [], "what is not known is no number and no verdict"


def test_traces_that_are_recorded_again_are_the_same(store, run):
    """A run may be killed while it records them."""
    run.log_traces([PASSED], model="starter")
    run.log_traces([PASSED, FAILED], model="starter")
    traces = traces_of(store, run)
    assert len(traces) == 2
    assert [len(trace.info.assessments) for trace in traces.values()] == [1, 1]
    assert [len(trace.data.spans) for trace in traces.values()] == [1, 1]


def test_a_server_that_takes_no_traces_is_told_with_the_way_out(store, run, monkeypatch):
    def too_old(*_):
        raise NotImplementedError("log_spans is not supported: 3.3 is less than 3.4")

    monkeypatch.setattr("mlflow.tracing.client.TracingClient.log_spans", too_old)
    with pytest.raises(UserError, match=r"takes no traces .*tracking\.traces=0"):
        run.log_traces([PASSED], model="starter")


def test_a_sample_is_evenly_spread_and_never_more_than_asked_for():
    assert spread("abcde", 5) == list("abcde")
    assert spread("abcde", 3) == list("ace")
    assert spread("abcde", 0) == []
    assert len(set(spread(range(1140), 200))) == 200
    json.dumps(spread(range(3), 2))
