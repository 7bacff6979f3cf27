"""More tasks only of those in question: what is shown is true, and what is dear is dropped."""

import math

import numpy as np
import pytest

from benchmarks.resolve import Bench, draw, resolve, rules_of, run
from codejoule.statistics import ASSUMED, REPEATS, RunVariance
from codejoule.statistics.betting import log_growth
from codejoule.statistics.between_runs import upper_sd
from codejoule.statistics.race import Job, Question, Race, Rules

ENOUGH = math.log(1 / 0.05)
KNOWN = RunVariance(sd_log=0.01, df=math.inf, source=ASSUMED)


def shown(populations: np.ndarray, null: float, rng: np.random.Generator) -> float:
    """Share of the populations (columns) of which it is shown, at any task, that their mean is
    above `null`."""
    drawn = rng.permuted(populations, axis=0)
    growth = log_growth(drawn, population=len(drawn), null=null, low=-1.0)
    return float((np.cumsum(growth, axis=0).max(axis=0) >= ENOUGH).mean())


@pytest.mark.parametrize("disagreeing", [0.02, 0.1, 0.5])
def test_a_false_hypothesis_is_shown_at_most_as_often_as_said_however_often_one_looks(
    disagreeing: float,
) -> None:
    tasks = 500
    one = np.zeros(tasks)
    pairs = int(tasks * disagreeing / 2)
    one[:pairs], one[pairs : 2 * pairs] = 1.0, -1.0
    populations = np.tile(one[:, None], (1, 2000))
    # A mean of exactly 0 is not above 0; the look at the last task decides it for certain.
    assert shown(populations, 0.0, np.random.default_rng(0)) <= 0.06


def test_what_is_true_is_shown_long_before_the_last_task() -> None:
    rng = np.random.default_rng(0)
    alike = np.zeros((1140, 200))
    alike[:14], alike[14:28] = 1.0, -1.0
    drawn = rng.permuted(alike, axis=0)
    growth = log_growth(drawn, population=1140, null=-0.02, low=-1.0)
    first = np.argmax(np.cumsum(growth, axis=0) >= ENOUGH, axis=0)
    assert np.median(first) < 1140 / 2


def test_tasks_that_leave_no_room_for_the_hypothesis_refute_it() -> None:
    x = np.ones(10)
    assert np.isinf(log_growth(x, population=10, null=0.5, low=0.0)).any()


def test_looks_are_nested_full_batches_and_end_with_all_tasks() -> None:
    assert Rules(first=32, step=32, growth=1.3).looks(406) == (32, 64, 96, 128, 192, 256, 352, 406)
    assert Rules(first=64, step=64).looks(64) == (64,)
    assert Rules(first=64, step=64).looks(40) == (40,)


def test_the_same_results_lead_to_the_same_jobs() -> None:
    def jobs() -> list[Job]:
        rng = np.random.default_rng(3)
        space = draw(200, rng)
        bench = Bench(space, rng)
        race = Race(
            space.predicted_j,
            tasks=200,
            rules=rules_of(Question.front, space),
            between=[KNOWN] * 60,
        )
        asked = []
        while found := race.ask():
            asked += found
            for job in found:
                race.tell(job, *bench.run(job))
        return asked

    first = jobs()
    assert first == jobs()
    assert all(job.before < job.tasks for job in first)


def told(
    energy_j: list[float],
    passed: list[float],
    question: Question,
    variance: RunVariance = KNOWN,
    **changes: float,
) -> tuple[Race, int]:
    """A race of configurations that take exactly so much, and pass these shares of 200 tasks."""
    rules = Rules(question=question, first=20, step=20, **changes)
    race = Race(
        [math.nan] * len(energy_j), tasks=200, rules=rules, between=[variance] * len(energy_j)
    )
    rng = np.random.default_rng(0)
    place = rng.permutation(200)
    jobs = 0
    while asked := race.ask():
        for job in asked:
            jobs += 1
            done = (place < passed[job.configuration] * 200).astype(float)[: job.tasks]
            race.tell(job, np.full(job.tasks, energy_j[job.configuration]), done)
    return race, jobs


def test_a_dear_one_that_is_no_better_is_dropped_early() -> None:
    race, _ = told([1.0, 50.0, 2.0], [0.3, 0.3, 0.8], Question.front)
    answer = race.answer()
    assert answer.decided
    assert answer.chosen == (0, 2)
    assert race.seen[1].tasks < 100


def test_equal_energies_are_repeated_and_then_said_to_be_a_tie() -> None:
    race, _ = told([1.0, 1.0], [0.6, 0.6], Question.least_energy, min_pass_at_1=0.4)
    answer = race.answer()
    assert answer.decided
    assert [len(seen.runs) for seen in race.seen] == [3, 3]
    assert len(answer.ties) == 1
    assert 0.02 < answer.ties[0][2] < 0.1


def test_a_variance_from_few_repeats_shows_less_than_one_that_is_known() -> None:
    few = RunVariance(sd_log=0.01, df=3.0, source=REPEATS)
    (known, _), (guessed, _) = (
        told([1.0, 1.05], [0.6, 0.6], Question.least_energy, variance, min_pass_at_1=0.4)
        for variance in (KNOWN, few)
    )
    assert known.answer().chosen == guessed.answer().chosen == (0,)
    assert known.answer().ties == ()
    assert len(guessed.answer().ties) == 1, "5 % may be no difference where runs may differ by 4 %"


def test_repeats_that_would_leave_all_open_are_not_made() -> None:
    coarse = RunVariance(sd_log=0.3, df=math.inf, source=ASSUMED)
    race, _ = told([1.0, 1.02], [0.6, 0.6], Question.least_energy, coarse, min_pass_at_1=0.4)
    assert race.answer().decided
    assert [len(seen.runs) for seen in race.seen] == [1, 1]
    assert len(race.answer().ties) == 1


def test_the_bound_of_a_standard_deviation_is_exceeded_as_often_as_said() -> None:
    rng = np.random.default_rng(0)
    found = 0.02 * np.sqrt(rng.chisquare(4, size=4000) / 4)
    bounds = [upper_sd(RunVariance(sd_log=sd, df=4.0, source=REPEATS), 0.02) for sd in found]
    assert np.mean(np.array(bounds) < 0.02) == pytest.approx(0.02, abs=0.007)
    assert upper_sd(KNOWN, 0.02) == KNOWN.sd_log


def test_what_is_loaded_goes_first_where_tasks_cost_the_same() -> None:
    rules = Rules(question=Question.least_energy, min_pass_at_1=0.4, first=20, step=20)
    race = Race([1.0, 1.0], tasks=20, rules=rules, between=[KNOWN] * 2)
    (job,) = race.ask(lambda job: 5.0 if job.configuration == 0 else 0.0)
    assert job.configuration == 1


def test_where_none_reaches_the_goal_none_is_chosen() -> None:
    race, _ = told([1.0, 2.0], [0.2, 0.3], Question.least_energy, min_pass_at_1=0.9)
    assert race.answer().decided
    assert race.answer().chosen == ()


def test_the_best_within_a_limit_of_energy_is_found() -> None:
    limit_j = 200 * 10.0
    race, _ = told([1.0, 5.0, 50.0], [0.3, 0.6, 0.9], Question.best_pass, max_energy_j=limit_j)
    assert race.answer().chosen == (1,)
    assert "energy" in race.out[2]


def test_one_that_fails_is_in_question_no_longer() -> None:
    rules = Rules(question=Question.front, first=20, step=20)
    race = Race([1.0, 2.0], tasks=20, rules=rules, between=[KNOWN] * 2)
    (cheap, dear) = race.ask()
    assert (cheap.configuration, dear.configuration) == (0, 1)
    race.tell(cheap, np.ones(20), np.ones(20))
    race.fail(1)
    assert race.ask() == []
    assert race.answer().chosen == (0,)


@pytest.mark.slow
@pytest.mark.parametrize("question", list(Question))
def test_a_simulated_space_is_answered_for_less_than_the_grid(question: Question) -> None:
    for seed in range(2):
        rng = np.random.default_rng(seed)
        space = draw(300, rng)
        bench = Bench(space, rng)
        assert resolve(space, rules_of(question, space), bench).decided
        assert bench.spent_j < 0.9 * space.total_j.sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "share"), [("front", 34.0), ("least_energy", 5.0), ("best_pass", 10.0)]
)
def test_the_answer_is_right_and_the_energy_a_fraction(question: str, share: float) -> None:
    found = run(Question(question), 100)
    assert found["right of those decided %"] >= 95
    assert found["decided %"] == 100
    assert found["energy, median % of the grid"] <= share
    assert found["random order, same energy: right %"] < 50
