"""The state machine: its rules hold for every sequence of observations."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.deploy.rollout import (
    ENDED,
    Action,
    Observation,
    Phase,
    Rollout,
    Status,
    StepResult,
    Verb,
    advance,
    begin,
    next_action,
    resume,
)
from tests.unit.deploy.samples import NEW, plan

results = st.lists(
    st.sampled_from(
        [StepResult.OK, StepResult.OK, StepResult.OK, StepResult.OK, StepResult.FAILED, StepResult.UNKNOWN]
    ),
    max_size=80,
)


def play(state: Rollout, answers: list[StepResult]) -> tuple[Rollout, list[tuple[Action, StepResult]]]:
    """Drive the machine; after the given answers everything goes well."""
    done = []
    for answer in [*answers, *[StepResult.OK] * 200]:
        state = resume(state)
        action = next_action(state)
        if action is None:
            break
        state = advance(state, Observation(action, answer, "seen"))
        done.append((action, answer))
    return state, done


def test_all_goes_well() -> None:
    state, done = play(begin("r", plan(2)), [])
    assert state.status is Status.DONE
    assert [(a.verb.value, a.instance) for a, _ in done] == [
        *[(verb, "web-0") for verb in ("provision", "validate", "admit", "soak")],
        *[(verb, "web-1") for verb in ("provision", "validate", "admit", "soak")],
        ("decommission", "web-0"),
        ("decommission", "web-1"),
    ]


def test_nothing_to_do_is_done() -> None:
    state = begin("r", plan(previous=NEW))
    assert state.status is Status.DONE
    assert next_action(state) is None


def test_a_failure_goes_back_newest_first() -> None:
    answers = [StepResult.OK] * 4 + [StepResult.OK, StepResult.OK, StepResult.FAILED]
    state, done = play(begin("r", plan(3)), answers)
    assert state.status is Status.ROLLED_BACK
    assert state.reason == "web-1: admit failed: seen"
    assert [a for a, _ in done][7:] == [Action(Verb.RESTORE, "web-1"), Action(Verb.RESTORE, "web-0")]
    assert state.phases["web-2"] is Phase.RESERVED


def test_a_return_that_fails_is_stuck() -> None:
    state, done = play(begin("r", plan(2)), [StepResult.OK] * 5 + [StepResult.FAILED, StepResult.FAILED])
    assert state.status is Status.STUCK
    assert [a for a, _ in done][6:] == [Action(Verb.RESTORE, "web-1"), Action(Verb.RESTORE, "web-0")]
    assert state.phases == {"web-0": Phase.RETURNED, "web-1": Phase.STRANDED}


def test_a_failed_clean_up_is_a_warning() -> None:
    state, _ = play(begin("r", plan(1)), [StepResult.OK] * 4 + [StepResult.FAILED])
    assert state.status is Status.DONE_WITH_WARNINGS
    assert len(state.warnings) == 1


def test_unknown_pauses_and_asks_again() -> None:
    state = begin("r", plan(1))
    first = next_action(state)
    assert first is not None
    paused = advance(state, Observation(first, StepResult.UNKNOWN, "no answer"))
    assert paused.status is Status.PAUSED
    assert next_action(paused) is None
    assert next_action(resume(paused)) == first


def test_an_answer_to_another_question_is_refused() -> None:
    with pytest.raises(ValueError, match="was not asked for"):
        advance(begin("r", plan(2)), Observation(Action(Verb.SOAK, "web-1"), StepResult.OK))


@given(st.integers(1, 5), results)
def test_it_always_ends_and_never_skips_a_proof(count: int, answers: list[StepResult]) -> None:
    state, done = play(begin("r", plan(count)), answers)
    assert state.status in ENDED
    good: dict[str, list[Verb]] = {}
    restored = False
    for action, result in done:
        seen = good.setdefault(action.instance, [])
        if action.verb is Verb.ADMIT:
            assert Verb.VALIDATE in seen
        if action.verb is Verb.SOAK:
            assert Verb.ADMIT in seen
        if action.verb is Verb.RESTORE:
            restored = True
        if restored:
            assert action.verb is Verb.RESTORE
        if result is StepResult.OK:
            seen.append(action.verb)
    assert restored == (state.status in (Status.ROLLED_BACK, Status.STUCK))


@given(st.integers(1, 4), results)
def test_one_instance_at_a_time(count: int, answers: list[StepResult]) -> None:
    _, done = play(begin("r", plan(count)), answers)
    forward = [a.instance for a, _ in done if a.verb not in (Verb.RESTORE, Verb.DECOMMISSION)]
    assert forward == sorted(forward)


@given(st.integers(1, 4), results)
def test_a_state_survives_being_written_and_read(count: int, answers: list[StepResult]) -> None:
    state = begin("r", plan(count))
    for answer in answers:
        state = resume(state)
        action = next_action(state)
        if action is None:
            break
        state = advance(state, Observation(action, answer, "seen"))
        assert msgspec.json.decode(msgspec.json.encode(state), type=Rollout) == state
