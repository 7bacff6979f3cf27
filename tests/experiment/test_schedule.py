"""How long the rest of a sweep takes."""

from codejoule.experiment.schedule import Schedule


class _Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _run(schedule: Schedule, clock: _Clock, number: int, took_s: float) -> None:
    schedule.begin(number)
    clock.now_s += took_s
    schedule.end(number, worked=True)


def test_nothing_is_said_where_nothing_is_known() -> None:
    schedule = Schedule([None, 10.0])
    assert schedule.left_s() is None and schedule.left() == ""


def test_predictions_tell_and_what_jobs_took_corrects_them() -> None:
    clock = _Clock()
    schedule = Schedule([10.0, 20.0, 30.0], clock)
    schedule.begin(0)
    clock.now_s += 4
    assert schedule.left_s() == 56.0
    clock.now_s += 16
    assert schedule.left_s() == 50.0, "a job that takes longer than predicted is not less than none"
    schedule.end(0, worked=True)
    schedule.begin(1)
    assert schedule.left_s() == 100.0, "jobs take twice as long as predicted"


def test_finished_jobs_stand_for_those_that_nothing_predicts() -> None:
    clock = _Clock()
    schedule = Schedule([None, None, None, None], clock)
    _run(schedule, clock, 0, 10.0)
    _run(schedule, clock, 1, 20.0)
    schedule.begin(2)
    clock.now_s += 5.0
    assert schedule.left_s() == 25.0
    assert schedule.left() == "about 25 s left"


def test_jobs_at_once_take_as_long_as_the_busiest_place() -> None:
    clock = _Clock()
    schedule = Schedule([10.0, 30.0, 10.0, 20.0], clock)
    schedule.at_once = 2
    schedule.begin(0)
    schedule.begin(1)
    assert schedule.left_s() == 40.0, "10, 10 and 20 s beside 30 s"
    clock.now_s += 10.0
    schedule.end(0, worked=True)
    schedule.begin(2)
    assert schedule.left_s() == 30.0
    clock.now_s += 10.0
    schedule.end(2, worked=False)
    schedule.begin(3)
    assert schedule.left_s() == 20.0, "the others have 10 s left"
