"""The state machines as tables, their pure function, and their drawings."""

from itertools import chain, combinations

import pytest
from fedfabric.chaincode.machine import NEW, Guard, Machine, Transition
from fedfabric.chaincode.records import AccessState, DatasetState, JobState, RoundState, refusals
from fedfabric.chaincode.reference import state_machines, transactions
from fedfabric.chaincode.states import ACCESS, DATASET, JOB, MACHINES, ROUND


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_state_event_and_set_of_guards_has_one_answer_or_a_refusal(machine):
    events = {row.event for row in machine.transitions}
    for state in machine.states:
        for event in events:
            rows = [row for row in machine.transitions if (row.state, row.event) == (state, event)]
            guards = list(dict.fromkeys(guard for row in rows for guard in row.guards))
            for holding in chain.from_iterable(combinations(guards, size) for size in range(len(guards) + 1)):
                fitting = [row.next for row in rows if set(row.guards) <= set(holding)]
                if fitting:
                    assert machine.next(state, event, holding) == fitting[0]
                else:
                    with pytest.raises(refusals.Refusal) as refused:
                        machine.next(state, event, holding)
                    expected = {guard.refusal for guard in guards} or {refusals.WrongState}
                    assert type(refused.value) in expected


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_state_is_reached_from_the_beginning(machine):
    reached = {NEW}
    while True:
        more = {row.next for row in machine.transitions if row.state in reached} | reached
        if more == reached:
            break
        reached = more
    assert reached == set(machine.states)


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_no_row_is_hidden_by_one_before_it(machine):
    for position, row in enumerate(machine.transitions):
        for before in machine.transitions[:position]:
            if (before.state, before.event) == (row.state, row.event):
                assert not set(before.guards) <= set(row.guards), row


@pytest.mark.parametrize(
    ("machine", "states"), [(JOB, JobState), (ROUND, RoundState), (ACCESS, AccessState), (DATASET, DatasetState)]
)
def test_the_table_has_exactly_the_records_states(machine, states):
    assert set(machine.states) - {NEW} == {state.value for state in states}


def test_ended_jobs_and_rounds_stay_ended():
    assert set(JOB.final_states) == {"finished", "refused", "cancelled", "aborted"}
    assert set(ROUND.final_states) == {"final", "aborted"}


def test_a_refusal_of_an_event_says_where_it_is_possible():
    with pytest.raises(refusals.WrongState, match="attest is possible in closed; the round is open"):
        ROUND.next(RoundState.OPEN, "attest")


def test_the_last_rows_first_unmet_guard_speaks():
    one, two = Guard("one", refusals.TooEarly), Guard("two", refusals.QuorumMissing)
    machine = Machine("m", "M", (Transition("a", "go", (two,), "b"), Transition("a", "go", (one, two), "c")))
    with pytest.raises(refusals.TooEarly):
        machine.next("a", "go")
    with pytest.raises(refusals.QuorumMissing):
        machine.next("a", "go", [one])


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_the_drawing_shows_every_row(machine):
    drawn = machine.mermaid().splitlines()
    assert len(drawn) == 1 + len(machine.transitions) + len(machine.final_states)
    for row in machine.transitions:
        assert f"    {'[*]' if row.state == 'new' else row.state} --> {row.next}: {row.event}" in "\n".join(drawn)
    assert len(machine.table().splitlines()) == 2 + len(machine.transitions)
    assert machine.mermaid() in state_machines()
    assert machine.table() in state_machines()
    # Mermaid takes these for syntax.
    assert not set("<>;#") & set(machine.mermaid().replace("-->", ""))


def test_the_reference_names_every_transaction_once():
    page = transactions()
    assert page.count("| `training:finalise` |") == 1
    assert page.count("\n| `") == 36
