"""A run that generates in one process and is judged in another, through the store alone."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import codejoule
from codejoule.analysis import load_runs
from codejoule.cli import main
from codejoule.config import ConfigError, UserError
from codejoule.config.compose import compose_experiment
from codejoule.config.schema import TrackingConfig, TrackingName
from codejoule.experiment import evaluation_stage
from codejoule.experiment.identity import configuration
from codejoule.experiment.judging import _Record, judge_run
from codejoule.tracking import Outbox, Store, StoredRun, prepare_store, read_tasks_parquet
from codejoule.tracking.outbox import Waiting
from tests.mlflow_server import Server


def run(folder: Path, *overrides: str) -> codejoule.Run:
    (found,) = codejoule.run(
        "suite.limit=4", "batch=b8", "meter=cpu_estimate", "tracking.traces=3",
        f"tracking.dir={folder}/mlruns", *overrides,
    )  # fmt: skip
    return found


def store_of(folder: Path, experiment: str = "codejoule") -> Store:
    return prepare_store(TrackingConfig(dir=f"{folder}/mlruns", experiment=experiment))


def stored(folder: Path, made: codejoule.Run, experiment: str = "codejoule") -> StoredRun:
    found = store_of(folder, experiment).read(made.run_id)
    assert found is not None
    return found


def verdicts_of(folder: Path, made: codejoule.Run, experiment: str = "codejoule") -> list[Any]:
    scratch = folder / "fetched" / made.run_id
    scratch.mkdir(parents=True, exist_ok=True)
    file = store_of(folder, experiment).fetch_artifact(made.run_id, "tasks.parquet", scratch)
    assert file is not None
    return [(r.task_id, r.sample, r.verdict, r.verdict_reason) for r in read_tasks_parquet(file)]


def evaluate(folder: Path, *options: str) -> int:
    return main(["evaluate", "--tracking-uri", f"sqlite:///{folder}/mlruns/mlflow.db", *options])


@dataclass(frozen=True)
class Story:
    """What there was at each point."""

    folder: Path
    whole: StoredRun
    whole_verdicts: list[Any]
    made: codejoule.Run
    generated: StoredRun
    left_out: tuple[str, ...]
    again: codejoule.Run
    judged_run: codejoule.Run
    judged: StoredRun
    verdicts: list[Any]
    after: codejoule.Run


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, with_database: Callable[[Path], Path]) -> Story:
    folder = with_database(tmp_path_factory.mktemp("apart"))
    whole = run(folder, "tracking.experiment=whole")
    made = run(folder, "stage=generate")
    generated = stored(folder, made)
    left_out = load_runs(made.tracking_uri, "codejoule").left_out
    again = run(folder, "stage=generate")
    # The machine that judges has the store, and nothing else of the one that generated.
    shutil.rmtree(folder / "mlruns" / "journals")
    judged_run = run(folder, "stage=evaluate")
    return Story(
        folder=folder,
        whole=stored(folder, whole, "whole"),
        whole_verdicts=verdicts_of(folder, whole, "whole"),
        made=made,
        generated=generated,
        left_out=left_out,
        again=again,
        judged_run=judged_run,
        judged=stored(folder, made),
        verdicts=verdicts_of(folder, made),
        after=run(folder),
    )


@pytest.mark.slow
def test_a_run_that_has_generated_is_finished_and_says_that_it_is_not_judged(story: Story) -> None:
    assert story.generated.status == "FINISHED"
    assert story.generated.tags["codejoule.stage"] == "generated"
    assert story.generated.metrics["energy_per_task_j"] > 0
    judged = ("pass_at_1", "energy_evaluation_j", "energy_total_kwh", "carbon_g")
    assert not story.generated.metrics.keys() & set(judged)
    assert "evaluator.python" not in story.generated.params, "which Python judges is not known yet"
    (sentence,) = story.left_out
    assert "the verdicts of 1 run whose samples are still to be judged" in sentence


def test_nothing_is_generated_twice(story: Story) -> None:
    ids = {r.run_id for r in (story.made, story.again, story.judged_run, story.after)}
    assert len(ids) == 1
    assert story.again.skipped and story.after.skipped and not story.judged_run.skipped


def test_a_run_judged_later_is_known_by_and_has_what_a_whole_one_has(story: Story) -> None:
    fingerprint = story.whole.tags["codejoule.fingerprint"]
    assert story.generated.tags["codejoule.fingerprint"] == fingerprint
    assert story.judged.tags["codejoule.fingerprint"] == fingerprint
    assert "codejoule.fingerprint_generated" not in story.judged.tags
    assert story.judged.metrics.keys() == story.whole.metrics.keys()
    assert story.judged.tags.keys() == story.whole.tags.keys()
    assert story.judged.params == story.whole.params
    for name in ("pass_at_1", "pass_at_1_ci_low", "tasks", "output_tokens"):
        assert story.judged.metrics[name] == story.whole.metrics[name]
    assert story.verdicts == story.whole_verdicts
    metrics = story.judged.metrics
    total_j = metrics["energy_generation_j"] + metrics["energy_evaluation_j"]
    assert metrics["energy_total_kwh"] == pytest.approx(total_j / 3.6e6)
    assert metrics["energy_generation_j"] == story.generated.metrics["energy_generation_j"]


def test_the_machine_that_judged_is_recorded(story: Story) -> None:
    tags = story.judged.tags
    assert tags["codejoule.stage"] == "judged"
    assert tags["codejoule.host_evaluation"] == tags["codejoule.host"]
    assert tags["codejoule.energy_source_evaluation"] == "estimate"
    scratch = story.folder / "scratch"
    scratch.mkdir()
    store = store_of(story.folder)
    for name in ("environment_evaluation.json", "eval_results.json", "pass_at_k.json"):
        assert store.fetch_artifact(story.made.run_id, name, scratch)


def test_its_traces_have_the_verdicts(story: Story) -> None:
    from mlflow.tracking import MlflowClient

    client, store = MlflowClient(story.made.tracking_uri), store_of(story.folder)
    found = client.search_traces(locations=[store.experiment_id], run_id=story.made.run_id)
    verdicts = {task_id: verdict for task_id, _, verdict, _ in story.verdicts}
    told = {t.info.tags["mlflow.traceName"]: [a.value for a in t.info.assessments] for t in found}
    assert len(told) == 3
    assert told == {name: [verdicts[name] == "pass"] for name in told}


def test_a_judged_run_is_refused_unless_it_shall_be_judged_again(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = story.made.run_id
    assert evaluate(story.folder, "--run", run_id) == 2
    assert f"run {run_id} is judged already; judge all its samples again with --again" in (
        capsys.readouterr().err
    )
    assert evaluate(story.folder, "--run", run_id, "--again", "--timeout-s", "30") == 0
    assert "pass@1" in capsys.readouterr().out
    after = stored(story.folder, story.made)
    assert verdicts_of(story.folder, story.made) == story.verdicts
    before = story.judged.tags["codejoule.fingerprint"]
    assert after.tags["codejoule.fingerprint"] != before, "the limit is part of what it is"
    assert after.tags["codejoule.fingerprint_generated"] == before
    assert after.params["evaluator.timeout_s"] == "30.0"
    assert evaluate(story.folder, "--run", run_id, "--again", "--timeout-s", "31") == 2
    assert "was made with 30.0, and MLflow's params cannot change" in capsys.readouterr().err


@pytest.mark.slow
def test_judging_that_was_broken_off_continues(
    tmp_path: Path, with_database: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_database(tmp_path)
    made = run(folder, "stage=generate")
    judged: list[int] = []
    judge_here = evaluation_stage.judge_here

    def counting(samples: Any, *args: Any, **more: Any) -> None:
        judged.append(len(samples))
        judge_here(samples[:3] if len(judged) == 1 else samples, *args, **more)
        if len(judged) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_stage, "judge_here", counting)
    assert evaluate(folder, "--run", made.run_id) == 130
    assert stored(folder, made).tags["codejoule.stage"] == "generated"
    with monkeypatch.context() as patch:
        patch.setattr(_Record, "log", lambda *_: (_ for _ in ()).throw(UserError("store gone")))
        assert evaluate(folder, "--run", made.run_id) == 2
    assert judged == [4, 1]
    assert evaluate(folder, "--run", made.run_id) == 0
    assert judged == [4, 1], "every verdict was on disk"
    assert stored(folder, made).tags["codejoule.stage"] == "judged"
    left = [path for path in (folder / "mlruns" / "journals").rglob("judging-*") if path.is_dir()]
    assert not left


@pytest.mark.slow
def test_a_run_that_was_broken_off_while_it_judged_can_be_handed_over(
    tmp_path: Path, with_database: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, judge_here = with_database(tmp_path), evaluation_stage.judge_here
    judged: list[int] = []

    def some(samples: Any, *args: Any, **more: Any) -> None:
        judged.append(len(samples))
        judge_here(samples[:3] if len(judged) == 1 else samples, *args, **more)
        if len(judged) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(evaluation_stage, "judge_here", some)
    with pytest.raises(KeyboardInterrupt):
        run(folder)
    made = run(folder, "stage=generate")
    before = stored(folder, made)
    assert before.tags["codejoule.stage"] == "generated"
    assert "pass_at_1" not in before.metrics
    assert run(folder, "stage=evaluate").run_id == made.run_id
    assert judged == [4, 1], "what had been judged is not judged again"
    after = stored(folder, made)
    assert after.tags["codejoule.stage"] == "judged"
    assert after.metrics["energy_evaluation_j"] > before.metrics["energy_evaluation_j"] > 0
    assert run(folder).skipped


def test_judging_without_a_run_says_how_to_make_one(
    tmp_path: Path, with_database: Callable[[Path], Path]
) -> None:
    with pytest.raises(UserError, match=r"no run of this configuration has generated .*stage=gen"):
        run(with_database(tmp_path), "stage=evaluate")


def test_judging_while_the_server_is_away_says_so(tmp_path: Path, empty_database: Path) -> None:
    tracking = TrackingConfig(
        name=TrackingName.server, uri="http://127.0.0.1:9", dir=str(tmp_path / "mlruns")
    )
    outbox = Outbox(tracking.folder, "http://127.0.0.1:9")
    outbox.note_down()
    shutil.copy(empty_database, outbox.folder / "mlflow.db")
    place = ["tracking=server", f"tracking.uri={tracking.uri}", f"tracking.dir={tracking.dir}"]
    with pytest.raises(UserError, match=r"server http://127.0.0.1:9 does not answer, which has"):
        codejoule.run(*place, "stage=evaluate")
    with pytest.raises(UserError, match=r"server http://127.0.0.1:9 does not answer, which has"):
        judge_run(
            prepare_store(tracking), "1234", compose_experiment(place),
            folder_of=lambda name: tmp_path / name,
        )  # fmt: skip
    # As where it went away while the verdicts were recorded.
    outbox.add(Waiting(known_as="1234", run_id="5678", experiment="codejoule", whole=False))
    with pytest.raises(UserError, match=r"but for a part that waits in .*: codejoule sync"):
        judge_run(
            prepare_store(tracking), "1234", compose_experiment(place),
            folder_of=lambda name: tmp_path / name,
        )  # fmt: skip


def test_a_run_that_judges_nothing_has_one_stage() -> None:
    with pytest.raises(ConfigError, match=r"stage=generate: evaluator=none judges nothing"):
        compose_experiment(["stage=generate", "evaluator=none"])


def test_the_stage_and_the_machine_that_judges_are_no_part_of_what_a_run_is() -> None:
    plain = configuration(compose_experiment([]))
    for own in (
        ["stage=generate"],
        ["stage=evaluate", "evaluator=ray", "evaluator.address=head:6379"],
        ["evaluator.python=/bin/true"],
    ):
        assert configuration(compose_experiment(own)) == plain
    assert configuration(compose_experiment(["evaluator.timeout_s=7"])) != plain


@pytest.mark.slow
def test_a_machine_that_shares_nothing_but_the_server_judges(
    tmp_path: Path, mlflow_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow_server.start()
    place = ["tracking=server", f"tracking.uri={mlflow_server.uri}", "suite.limit=4", "batch=b8"]
    (made,) = codejoule.run(
        *place, "meter=cpu_estimate", f"tracking.dir={tmp_path}/gpu", "stage=generate"
    )
    monkeypatch.setenv("CODEJOULE_HOME", str(tmp_path / "cpu"))
    assert main(["evaluate", "--tracking-uri", mlflow_server.uri, "--run", made.run_id]) == 0
    config = TrackingConfig(
        name=TrackingName.server, uri=mlflow_server.uri, dir=str(tmp_path / "other")
    )
    judged = prepare_store(config).read(made.run_id)
    assert judged is not None
    assert judged.tags["codejoule.stage"] == "judged"
    assert "pass_at_1" in judged.metrics and "energy_per_solved_task_j" in judged.metrics
    (after,) = codejoule.run(*place, "meter=cpu_estimate", f"tracking.dir={tmp_path}/third")
    assert (after.run_id, after.skipped) == (made.run_id, True)
