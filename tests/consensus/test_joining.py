"""The rule by which a node without files joins or founds, on values; then over loopback."""

from __future__ import annotations

from itertools import permutations

import pytest

from pyraft_fast.consensus.identity import (
    REFUSED_CLUSTER,
    REFUSED_JOINING,
    REFUSED_NODE,
    REFUSED_REMOVED,
    Hello,
    Identity,
    judge_hello,
    read_hello,
)
from pyraft_fast.consensus.joining import Answer, Found, Join, Wait, decide, listing_of
from pyraft_fast.errors import ProtocolError

NODES = ("n1", "n2", "n3")


def make_answer(nid: str, cluster: int = 0, **changes: object) -> Answer:
    fresh = Answer(nid, f"{nid}:5000", ord(nid[-1]), cluster, False, False, (), "")
    return fresh._replace(**changes)


def listed(me: str, **others: Answer | None) -> dict[str, Answer | None]:
    return {f"{nid}:5000": answer for nid, answer in others.items() if nid != me}


def test_nobody_founds_while_one_is_silent() -> None:
    verdict = decide(
        make_answer("n1"), listed("n1", n2=make_answer("n2", listing=NODES), n3=None), {}
    )
    assert isinstance(verdict, Wait)
    assert "n3:5000" in verdict.reason


def test_all_fresh_and_agreed_lets_exactly_the_smallest_found() -> None:
    founders = []
    for me in NODES:
        answers = listed(me, **{nid: make_answer(nid, listing=NODES) for nid in NODES})
        verdict = decide(make_answer(me), answers, {})
        if verdict == Found(3):
            founders.append(me)
        else:
            assert isinstance(verdict, Wait)
    assert founders == ["n1"]


def test_different_lists_found_nothing() -> None:
    answers = listed("n1", n2=make_answer("n2", listing=("n1", "n2", "n9")))
    verdict = decide(make_answer("n1"), answers, {})
    assert isinstance(verdict, Wait)
    assert "n9" in verdict.reason


def test_an_incomplete_list_of_another_is_waited_for() -> None:
    verdict = decide(make_answer("n1"), listed("n1", n2=make_answer("n2")), {})
    assert isinstance(verdict, Wait)
    assert "not complete" in verdict.reason


def test_any_member_of_a_cluster_means_joining_even_if_others_are_silent() -> None:
    member = make_answer("n2", cluster=99, leader_addr="n7:5000")
    verdict = decide(make_answer("n1"), listed("n1", n2=member, n3=None), {})
    assert verdict == Join(99, ("n7:5000", "n2:5000"))


def test_two_clusters_on_one_list_are_refused() -> None:
    answers = listed("n1", n2=make_answer("n2", 98), n3=make_answer("n3", 99))
    verdict = decide(make_answer("n1"), answers, {})
    assert isinstance(verdict, Wait)
    assert "different clusters" in verdict.reason


def test_a_removed_member_is_no_way_in_and_no_founding_partner() -> None:
    removed = make_answer("n2", 98, removed=True, listing=("n1", "n2"))
    verdict = decide(make_answer("n1"), listed("n1", n2=removed), {})
    assert isinstance(verdict, Wait)
    assert "removed" in verdict.reason


def test_the_node_with_a_snapshot_to_load_founds() -> None:
    loads = {"n3": True}
    founders = []
    for me in NODES:
        answers = listed(
            me,
            **{n: make_answer(n, listing=NODES, loads=loads.get(n, False)) for n in NODES},
        )
        if decide(make_answer(me, loads=loads.get(me, False)), answers, {}) == Found(3):
            founders.append(me)
    assert founders == ["n3"]


def test_a_given_id_must_be_the_one_that_answers() -> None:
    answers = listed("n1", n2=make_answer("n9", listing=("n1", "n9")))
    verdict = decide(make_answer("n1"), answers, {"n2:5000": "n2"})
    assert isinstance(verdict, Wait)
    assert "is node n9" in verdict.reason


def test_two_nodes_of_one_name_found_nothing() -> None:
    twin = make_answer("n1", incarnation=7, addr="other:5000", listing=("n1",))
    verdict = decide(make_answer("n1"), {"other:5000": twin}, {})
    assert isinstance(verdict, Wait)
    assert "ids must differ" in verdict.reason


def test_own_entry_in_the_list_counts_once() -> None:
    me = make_answer("n1")
    answers: dict[str, Answer | None] = {
        "n1:5000": me,
        "n2:5000": make_answer("n2", listing=("n1", "n2")),
    }
    assert listing_of(me, answers) == ("n1", "n2")
    assert decide(me, answers, {}) == Found(2)


def test_an_empty_list_founds_nothing() -> None:
    assert isinstance(decide(make_answer("n1"), {}, {}), Wait)


@pytest.mark.parametrize("order", list(permutations(NODES)))
def test_the_order_of_the_list_does_not_matter(order: tuple[str, ...]) -> None:
    answers: dict[str, Answer | None] = {
        f"{nid}:5000": make_answer(nid, listing=NODES) for nid in order
    }
    assert decide(make_answer("n1"), answers, {}) == Found(3)


ME = Identity(5, "n1", "h:1", 11)
CALLER = Identity(5, "n2", "h:2", 22)


@pytest.mark.parametrize(
    ("me", "hello", "code"),
    [
        (ME, Hello(CALLER, "n1", 11), None),
        (ME, Hello(CALLER, "n1", 0), None),
        (ME._replace(cluster=0), Hello(CALLER, "n1", 11), REFUSED_JOINING),
        (ME, Hello(CALLER._replace(cluster=6), "n1", 11), REFUSED_CLUSTER),
        (ME, Hello(CALLER, "n3", 11), REFUSED_NODE),
        (ME, Hello(CALLER, "n1", 12), REFUSED_NODE),
        (ME, Hello(CALLER._replace(nid="n1"), "n1", 11), REFUSED_NODE),
        (ME, Hello(CALLER._replace(incarnation=33), "n1", 11), REFUSED_REMOVED),
    ],
)
def test_who_may_open_a_link(me: Identity, hello: Hello, code: str | None) -> None:
    refusal = judge_hello(me, hello, removed=(33,))
    assert (refusal and refusal.code) == code


def test_a_refusal_names_the_other_cluster() -> None:
    refusal = judge_hello(ME, Hello(CALLER._replace(cluster=6), "n1", 11), ())
    assert refusal is not None
    assert "belongs to another cluster" in refusal.reason


def test_a_greeting_survives_the_wire() -> None:
    hello = Hello(CALLER, "n1", 11)
    assert read_hello(hello.header()) == hello


@pytest.mark.parametrize("field", ["magic", "version", "cluster", "nid", "incarnation", "to_nid"])
def test_a_greeting_with_a_bad_field_is_refused(field: str) -> None:
    header = Hello(CALLER, "n1", 11).header()
    header[field] = None
    with pytest.raises(ProtocolError):
        read_hello(header)
