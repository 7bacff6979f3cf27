"""One MLflow trace for each task: what it was asked, what it answered, at what cost, and whether
the answer passes."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from codejoule.common.mlflow_client import is_server
from codejoule.config import UserError
from codejoule.domain import TaskRecord
from codejoule.tracking.client import cut, explained
from codejoule.tracking.served import Place

if TYPE_CHECKING:
    from mlflow.entities import Feedback, Span, Trace, TraceInfo

TEXT_LENGTH = 10_000
"""Longest prompt and answer in a trace [characters]."""
_PREVIEW_LENGTH = 1000
_NS = 1_000_000_000
_PAGE = 500
"""Traces of one search; MLflow's own limit."""
_SOURCE = "mlflow.assessment.sourceRunId"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskTrace:
    """One sample of one task, as its trace shows it."""

    task_id: str
    """The task."""
    sample: int
    """Number of the sample, from 0."""
    prompt: str
    """What the model was asked."""
    answer: str
    """What it said."""
    prompt_tokens: int
    """Tokens of the prompt."""
    output_tokens: int
    """Generated tokens."""
    start_s: float
    """When it was taken up [s since the epoch]."""
    latency_s: float
    """From then to its last token [s]; of sequences that are decoded together, to the last of
    them."""
    energy_j: float | None
    """Its share of the energy of generation [J]; None where that is not known."""
    verdict: str | None
    """What the tests said; None where there were none."""
    reason: str | None
    """Why they said so."""


def spread(rows: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of `rows`, evenly spread over them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[i] for i in np.linspace(0, len(rows) - 1, most).round().astype(int)]


def log_traces(
    traces: Sequence[TaskTrace],
    *,
    uri: str,
    experiment_id: str,
    run_id: str,
    known_as: str,
    model: str,
) -> None:
    """Record the traces of a run: one request for each trace and its verdict, and one for the spans
    of all. Doing so again changes nothing: they are named after the id that the run is `known_as`,
    which is another than `run_id` in an outbox. Raises `UserError` where the store fails, or is too
    old.

    `TracingClient` is the one part of MLflow's tracing that takes what was measured earlier (3.17);
    its public functions trace what is happening now.
    """
    from mlflow.tracing.client import TracingClient

    if not traces:
        return
    with explained(uri, f"record the traces of run {run_id}"):
        client = TracingClient(uri)
        infos = [_info(trace, experiment_id, run_id, known_as) for trace in traces]
        # A server takes several requests at a time, SQLite one.
        with ThreadPoolExecutor(8 if is_server(uri) else 1) as pool:
            list(pool.map(client.start_trace, infos))
        try:
            client.log_spans(experiment_id, [_span(trace, known_as, model) for trace in traces])
        except NotImplementedError as error:
            raise UserError(
                f"tracking.traces: {uri} takes no traces ({error}); run a newer MLflow there, or "
                "start the same command again with tracking.traces=0"
            ) from error


def judge_traces(records: Sequence[TaskRecord], *, uri: str, run_id: str, known_as: str) -> None:
    """Add verdicts to the traces of a run that were recorded without them; samples that have no
    trace are passed over. Doing so again changes nothing. Raises `UserError` where the store
    fails."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracing.client import TracingClient

    if not records:
        return

    def judge(record: TaskRecord) -> None:
        digest = _hash(record.task_id, record.sample, known_as)
        try:
            info = client.get_trace_info(f"tr-{digest}")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return
        info.assessments = _feedback(digest, run_id, record.verdict, record.verdict_reason)
        client.start_trace(info)

    with explained(uri, f"record the verdicts of run {run_id}"):
        client = TracingClient(uri)
        with ThreadPoolExecutor(8 if is_server(uri) else 1) as pool:
            list(pool.map(judge, records))


def traces_of(place: Place, run_id: str) -> "list[Trace]":
    """The traces of a run, with their spans."""
    from mlflow.tracing.client import TracingClient

    client, found, token = TracingClient(place.uri), [], None
    while True:
        page = client.search_traces(
            locations=[place.experiment_id], run_id=run_id, max_results=_PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return found


def copy_traces(traces: "Sequence[Trace]", place: Place, run_id: str) -> None:
    """Record traces of another store for a run of this one. Doing so again changes nothing."""
    from mlflow.tracing.client import TracingClient

    if not traces:
        return
    client = TracingClient(place.uri)
    infos = [_moved(trace.info, place.experiment_id, run_id) for trace in traces]
    with ThreadPoolExecutor(8 if is_server(place.uri) else 1) as pool:
        list(pool.map(client.start_trace, infos))
    client.log_spans(place.experiment_id, [span for trace in traces for span in trace.data.spans])


def _moved(info: "TraceInfo", experiment_id: str, run_id: str) -> "TraceInfo":
    """With what `_info` gave it, and without what its store has added."""
    from mlflow.entities import TraceLocation
    from mlflow.tracing.constant import (
        TRACE_SCHEMA_VERSION_KEY,
        TraceMetadataKey,
        TraceTagKey,
    )

    kept = (TRACE_SCHEMA_VERSION_KEY, TraceMetadataKey.TOKEN_USAGE)
    metadata = {key: info.trace_metadata[key] for key in kept if key in info.trace_metadata}
    own = (TraceTagKey.TRACE_NAME, "energy_j")
    for assessment in info.assessments:
        assessment.metadata = {**(assessment.metadata or {}), _SOURCE: run_id}
    return replace(
        info,
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        trace_metadata={**metadata, TraceMetadataKey.SOURCE_RUN: run_id},
        tags={key: info.tags[key] for key in own if key in info.tags},
    )


def _hash(task_id: str, sample: int, known_as: str) -> str:
    """32 hexadecimal digits that are always the same for this sample of this run."""
    name = json.dumps([known_as, task_id, sample])
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _info(trace: TaskTrace, experiment_id: str, run_id: str, known_as: str) -> "TraceInfo":
    from mlflow.entities import TraceInfo, TraceLocation, TraceState
    from mlflow.tracing.constant import (
        TRACE_SCHEMA_VERSION,
        TRACE_SCHEMA_VERSION_KEY,
        TraceMetadataKey,
        TraceTagKey,
    )

    return TraceInfo(
        trace_id=f"tr-{_hash(trace.task_id, trace.sample, known_as)}",
        trace_location=TraceLocation.from_experiment_id(experiment_id),
        request_time=round(trace.start_s * 1000),
        execution_duration=round(trace.latency_s * 1000),
        state=TraceState.OK,
        request_preview=trace.prompt[:_PREVIEW_LENGTH],
        response_preview=trace.answer[:_PREVIEW_LENGTH],
        trace_metadata={
            TRACE_SCHEMA_VERSION_KEY: str(TRACE_SCHEMA_VERSION),
            TraceMetadataKey.SOURCE_RUN: run_id,
            TraceMetadataKey.TOKEN_USAGE: json.dumps(_usage(trace)),
        },
        tags={TraceTagKey.TRACE_NAME: _name(trace), **_energy(trace)},
        assessments=_feedback(
            _hash(trace.task_id, trace.sample, known_as), run_id, trace.verdict, trace.reason
        ),
    )


def _feedback(
    digest: str, run_id: str, verdict: str | None, reason: str | None
) -> list["Feedback"]:
    from mlflow.entities import AssessmentSource, Feedback

    if verdict is None:
        return []
    feedback = Feedback(
        name="pass",
        value=verdict == "pass",
        source=AssessmentSource(source_type="CODE", source_id="codejoule"),
        rationale=f"{verdict}: {reason}" if reason else verdict,
        metadata={_SOURCE: run_id},
    )
    # MLflow would take another id each time.
    feedback.assessment_id = f"a-{digest}"
    return [feedback]


def _energy(trace: TaskTrace) -> dict[str, str]:
    """A tag: MLflow colours numbers among assessments, large ones green."""
    return {} if trace.energy_j is None else {"energy_j": f"{trace.energy_j:.4g}"}


def _span(trace: TaskTrace, known_as: str, model: str) -> "Span":
    from mlflow.entities import Span, SpanType
    from mlflow.tracing.constant import SpanAttributeKey

    digest = _hash(trace.task_id, trace.sample, known_as)
    attributes = {
        SpanAttributeKey.REQUEST_ID: f"tr-{digest}",
        SpanAttributeKey.SPAN_TYPE: SpanType.LLM,
        SpanAttributeKey.INPUTS: {"prompt": cut(trace.prompt, TEXT_LENGTH)},
        SpanAttributeKey.OUTPUTS: cut(trace.answer, TEXT_LENGTH),
        SpanAttributeKey.CHAT_USAGE: _usage(trace),
        SpanAttributeKey.MODEL: model,
        "energy_j": trace.energy_j,
        "verdict": trace.verdict,
    }
    start_ns = round(trace.start_s * _NS)
    return Span.from_dict(
        {
            "trace_id": f"tr-{digest}",
            "span_id": digest[:16],
            "parent_span_id": None,
            "name": _name(trace),
            "start_time_unix_nano": start_ns,
            "end_time_unix_nano": start_ns + round(trace.latency_s * _NS),
            "status": {"code": "OK"},
            "events": [],
            "attributes": {k: json.dumps(v) for k, v in attributes.items() if v is not None},
        }
    )


def _usage(trace: TaskTrace) -> dict[str, int]:
    return {
        "input_tokens": trace.prompt_tokens,
        "output_tokens": trace.output_tokens,
        "total_tokens": trace.prompt_tokens + trace.output_tokens,
    }


def _name(trace: TaskTrace) -> str:
    return trace.task_id if trace.sample == 0 else f"{trace.task_id} #{trace.sample}"
