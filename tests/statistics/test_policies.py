"""Policies over members: what they cost and solve, and that no task decides its own routing."""

import numpy as np
import pytest
from numpy.typing import NDArray

from codejoule.statistics import Resampler, RunVariance
from codejoule.statistics.policies import (
    FOLDS,
    Cascade,
    Members,
    Policy,
    Route,
    Wanted,
    cascades,
    cross_validate,
    draw_folds,
    policy_outcomes,
    predict_run,
    routes,
    select,
)

FIXED = RunVariance(sd_log=0.0, df=np.inf, source="assumed")


def made(energy_j: object, accepted: object, solved: object, *, judging_j: float = 0.0) -> Members:
    energy, shown, hidden = (np.array(each, dtype=float) for each in (energy_j, accepted, solved))
    return Members(
        energy_j=energy, judging_j=np.full_like(energy, judging_j), accepted=shown, solved=hidden,
        accepted_solved=shown * hidden,
    )  # fmt: skip


def drawn(tasks: int, rng: np.random.Generator) -> Members:
    """A small and a large member; those that solve a task always pass its shown tests, and others
    pass them in one case of five."""
    hard = rng.random(tasks)
    solved = np.array([hard < 0.5, hard < 0.7])
    accepted = solved | (rng.random(solved.shape) < 0.2)
    energy_j = np.exp(rng.normal([[0.0], [2.0]], 0.3, solved.shape))
    return made(energy_j, accepted, solved, judging_j=0.01)


def everything(members: Members) -> NDArray[np.bool_]:
    return np.ones(members.energy_j.shape[1], dtype=bool)


def test_a_cascade_asks_the_next_member_only_where_shown_tests_fail() -> None:
    members = made(
        [[1, 1, 1], [10, 20, 30]], [[1, 0, 1], [1, 1, 0]], [[1, 0, 0], [1, 1, 1]], judging_j=0.5
    )
    energy_j, passed = policy_outcomes(Cascade((0, 1)), members, known=everything(members))
    # The third program passes the shown tests and is wrong: nobody knows, and it is given out.
    assert energy_j.tolist() == [1.5, 21.5, 1.5]
    assert passed.tolist() == [1, 1, 0]


def test_a_cascade_of_one_member_is_the_model_by_itself_and_judges_nothing() -> None:
    members = made([[1, 2]], [[0, 0]], [[1, 0]], judging_j=5)
    energy_j, passed = policy_outcomes(Cascade((0,)), members, known=everything(members))
    assert energy_j.tolist() == [1, 2] and passed.tolist() == [1, 0]


def test_several_samples_count_as_shares() -> None:
    members = Members(
        energy_j=np.array([[1.0], [10.0]]), judging_j=np.zeros((2, 1)),
        accepted=np.array([[0.5], [1.0]]), solved=np.array([[0.25], [0.8]]),
        accepted_solved=np.array([[0.25], [0.8]]),
    )  # fmt: skip
    energy_j, passed = policy_outcomes(Cascade((0, 1)), members, known=everything(members))
    assert energy_j.tolist() == [6.0]
    assert passed == pytest.approx([0.25 + 0.5 * 0.8])


def test_every_order_of_up_to_three_members_is_a_cascade() -> None:
    orders = [cascade.members for cascade in cascades(4)]
    assert len(orders) == len(set(orders)) == 4 + 12 + 24
    assert orders[:4] == [(0,), (1,), (2,), (3,)]


def test_routing_sends_each_group_to_the_member_that_is_worth_it() -> None:
    groups = np.repeat([0, 1], 20)
    solved = np.array([groups == 0, np.ones(40)])
    members = made([[1.0] * 40, [2.0] * 40], np.ones((2, 40)), solved)
    free, dear = (
        Route(by="domain", groups=groups, worth=worth, members=(0, 1)) for worth in (0, 10)
    )
    known = everything(members)
    assert policy_outcomes(free, members, known=known)[0].tolist() == [1.0] * 40
    energy_j, passed = policy_outcomes(dear, members, known=known)
    assert energy_j.tolist() == [1.0] * 20 + [2.0] * 20 and passed.all()


def test_a_small_group_does_what_is_best_for_all() -> None:
    groups = np.array([0] * 30 + [1] * 5)
    solved = np.array([np.ones(35), groups == 1])
    members = made(np.ones((2, 35)), np.ones((2, 35)), solved)
    route = Route(by="domain", groups=groups, worth=10, members=(0, 1))
    assert [chain for chain, _ in route.chains(members, known=everything(members))] == [(0,)]


def test_no_task_decides_its_own_routing() -> None:
    """Whatever a task's own figures are, the member that it is given to stays the same."""
    rng = np.random.default_rng(3)
    members = drawn(60, rng)
    features = {"domain": rng.integers(3, size=60), "length": rng.integers(4, size=60)}
    policies: list[Policy] = [*cascades(2), *routes(2, features)]
    folds = draw_folds(60, rng=rng)
    wanted = Wanted(min_pass_at_1=0.6)

    def given(own: Members) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Energies as all but the first task have them: their members' own."""
        chosen = select(policies, own, folds, wanted)
        return cross_validate(policies, own, folds).energy_j[:, 0], chosen.energy_j[:1]

    before, chosen_before = given(members)
    for name, value in (("solved", 0.0), ("solved", 1.0), ("accepted_solved", 0.0)):
        getattr(members, name)[:, 0] = value
        after, chosen_after = given(members)
        assert after.tolist() == before.tolist()
        assert chosen_after.tolist() == chosen_before.tolist()


def test_a_task_that_is_held_out_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    members = drawn(80, rng)
    policies: list[Policy] = [*cascades(2), *routes(2, {"domain": rng.integers(2, size=80)})]
    folds = np.where(np.arange(80) < 50, np.arange(80) % FOLDS, -1)
    before = select(policies, members, folds, Wanted())
    members.solved[:, 50:], members.energy_j[:, 50:] = 1 - members.solved[:, 50:], 1e6
    after = select(policies, members, folds, Wanted())
    assert after.policy == before.policy
    assert np.array_equal(after.energy_j, before.energy_j, equal_nan=True)
    assert np.isnan(after.passed[50:]).all() and not np.isnan(after.passed[:50]).any()


def test_choosing_among_useless_routes_is_not_praised() -> None:
    """Members that are alike: routing by noise looks better than it is on the tasks that it was
    made from, and not on others."""
    rng = np.random.default_rng(5)
    inside, outside = [], []
    for _ in range(20):
        solved = rng.random((3, 120)) < 0.5
        members = made(np.ones((3, 120)), np.ones((3, 120)), solved)
        route = Route(by="noise", groups=rng.integers(8, size=120), worth=100, members=(0, 1, 2))
        known = everything(members)
        inside.append(policy_outcomes(route, members, known=known)[1].mean())
        folds = draw_folds(120, rng=rng)
        outside.append(cross_validate([route], members, folds).passed.mean())
    assert np.mean(inside) > 0.55
    assert np.mean(outside) == pytest.approx(0.5, abs=0.03)


def test_the_goal_decides_what_is_chosen() -> None:
    energy_j, passed = np.array([1.0, 3.0, 9.0]), np.array([0.4, 0.7, 0.8])
    for wanted, place in (
        (Wanted(), 0),
        (Wanted(min_pass_at_1=0.6), 1),
        (Wanted(min_pass_at_1=0.75), 2),
        (Wanted(max_j=5), 1),
        (Wanted(max_j=0.5), 0),
        (Wanted(min_pass_at_1=0.95), 2),
    ):
        assert wanted.choose(energy_j, passed) == place, wanted.words
    assert not Wanted(min_pass_at_1=0.95).reached(9.0, 0.8)


@pytest.mark.parametrize(
    ("figures", "said"),
    [({"min_pass_at_1": 1.5}, "1.5: pass@1 to reach lies between 0 and 1"),
     ({"max_j": 0.0}, "0: energy per task must be above 0 J")],
)  # fmt: skip
def test_a_goal_that_cannot_be_is_refused(figures: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Wanted(**figures)


def test_fewer_tasks_than_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="4 tasks cannot be divided into 10 folds"):
        draw_folds(4, rng=np.random.default_rng(0))


def test_predicted_intervals_hold_what_they_promise() -> None:
    """Of 300 runs on new tasks, with another draw of each run's energy, about 95 % lie inside."""
    rng = np.random.default_rng(6)
    spread = RunVariance(sd_log=0.05, df=np.inf, source="assumed")
    inside = np.zeros(2)
    cascade, trials = Cascade((0, 1)), 300
    for _ in range(trials):
        pairs = []
        for tasks in (150, 100):
            members = drawn(tasks, rng)
            energy_j, passed = policy_outcomes(cascade, members, known=everything(members))
            pairs.append((energy_j * np.exp(rng.normal(0, spread.sd_log)), passed))
        (known_j, known_passed), (new_j, new_passed) = pairs
        found = predict_run(
            known_j, known_passed, np.arange(150), tasks=100, runs=1, variance=spread,
            resampler=Resampler(rng=rng, resamples=500),
        )  # fmt: skip
        inside += [
            found.energy_low_j <= new_j.mean() <= found.energy_high_j,
            found.pass_at_1_low <= new_passed.mean() <= found.pass_at_1_high,
        ]
    assert (np.abs(inside / trials - 0.95) < 0.035).all()


def test_solving_every_task_is_not_certainty() -> None:
    found = predict_run(
        np.ones(40), np.ones(40), np.arange(40), tasks=40, runs=1, variance=FIXED,
        resampler=Resampler(rng=np.random.default_rng(0)),
    )  # fmt: skip
    assert found.pass_at_1_high == 1 and 0.85 < found.pass_at_1_low < 0.95
