"""Who belongs to the cluster: a value that is in the log and in snapshots, and nowhere else.

A membership is in force on a node as soon as its entry is in that node's log, committed or not,
and no longer when the entry is truncated (thesis section 4.1). Every change made here adds or
removes at most one voter, so any majority of the old voters meets any majority of the new ones.

A node is its incarnation, a number drawn when its files are made. A name (`nid`) may come back on
new, empty disks; it is then another node, which must not vote for what the old one promised. So it
returns as a learner, and the old incarnation goes to `removed`, from where nothing returns while it
is there (the newest TOMBSTONES_MAX are).

Roles: "voter" counts in majorities; "learner" gets the log, and a vote once it has caught up;
"observer" gets the log and stays without a vote until it is promoted by hand (a demoted voter).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pyraft_fast._entry import packb, unpackb
from pyraft_fast.errors import MembershipError, ProtocolError, check
from pyraft_fast.limits import MEMBERS_MAX, TOMBSTONES_MAX

VOTER: Final = "voter"
LEARNER: Final = "learner"
OBSERVER: Final = "observer"
ROLES: Final = (VOTER, LEARNER, OBSERVER)


class Member(NamedTuple):
    """One node: its name, its client address "host:port", its incarnation and its role."""

    nid: str
    addr: str
    incarnation: int
    role: str

    @property
    def is_voter(self) -> bool:
        """Does it count in majorities?"""
        return self.role == VOTER


class Membership(NamedTuple):
    """The members of cluster `cluster`, sorted by nid.

    `removed` holds the incarnations that may not return, newest last, at most TOMBSTONES_MAX: the
    oldest is forgotten for one too many.
    `bootstrap` tells how many voters the founders asked for, until a majority of so many has voted;
    from that change on it is 0, and no later one asks again.
    """

    cluster: int
    members: tuple[Member, ...] = ()
    removed: tuple[int, ...] = ()
    bootstrap: int = 0

    @property
    def voters(self) -> tuple[Member, ...]:
        """Members that count in majorities."""
        return tuple(member for member in self.members if member.role == VOTER)

    @property
    def learners(self) -> tuple[Member, ...]:
        """Members without a vote, observers included."""
        return tuple(member for member in self.members if member.role != VOTER)

    @property
    def is_complete(self) -> bool:
        """Has a majority of what the founders asked for voted, now or at some time before?

        A cluster founded for three must not acknowledge writes while one disk alone holds them. It
        may be made smaller on purpose, then or later. Who lost its files before it voted counts for
        nothing.
        """
        return len(self.voters) > self.bootstrap // 2

    def get(self, nid: str) -> Member | None:
        """The member of that name, or None."""
        for member in self.members:
            if member.nid == nid:
                return member
        return None

    def with_added(self, nid: str, addr: str, incarnation: int) -> Membership:
        """A new learner. Raises MembershipError when name or incarnation cannot be taken."""
        if self.get(nid) is not None:
            raise MembershipError(f"a node {nid} is a member already; ids must differ")
        self._check_incarnation(nid, incarnation)
        if len(self.members) >= MEMBERS_MAX:
            raise MembershipError(f"the cluster has {MEMBERS_MAX} members, which is the most")
        return self._with(Member(nid, addr, incarnation, LEARNER))

    def with_rejoined(self, nid: str, addr: str, incarnation: int) -> Membership:
        """Member `nid` came back on empty disks: it is a learner now, its old self is removed.

        Raises MembershipError.
        """
        old = self._member(nid)
        self._check_incarnation(nid, incarnation)
        return self._without(old, f"node {nid}")._with(Member(nid, addr, incarnation, LEARNER))

    def with_removed(self, nid: str) -> Membership:
        """Member `nid` leaves for ever. Raises MembershipError for the last voter.

        While the founders' majority is awaited, one node fewer is asked for: whoever removes it
        does not expect it any more.
        """
        left = self._without(self._member(nid), f"node {nid}")
        left = left._replace(bootstrap=max(left.bootstrap - 1, 0))
        return left._replace(bootstrap=0) if left.is_complete else left

    def with_role(self, nid: str, role: str) -> Membership:
        """Member `nid` gets another role. Raises MembershipError for the last voter."""
        check(role in ROLES, "a role", role)
        old = self._member(nid)
        if old.is_voter and role != VOTER and len(self.voters) == 1:
            raise MembershipError(f"node {nid} is the only voter; promote another one first")
        return self._with(old._replace(role=role))

    def with_address(self, nid: str, addr: str) -> Membership:
        """Member `nid` is reached elsewhere. Raises MembershipError."""
        return self._with(self._member(nid)._replace(addr=addr))

    def check_follows(self, old: Membership) -> None:
        """Hold the rule on the receiving side: at most one voter came or went since `old`.

        Raises InvariantError.
        """
        before = {(member.nid, member.incarnation) for member in old.voters}
        after = {(member.nid, member.incarnation) for member in self.voters}
        check(not before or len(before ^ after) <= 1, "one voter changes at a time", old, self)
        check(old.cluster in (0, self.cluster), "a cluster keeps its id", old, self)

    def encode(self) -> bytes:
        """The payload of a membership entry, and what snapshots hold."""
        members = [[m.nid, m.addr, m.incarnation, m.role] for m in self.members]
        return bytes(packb([self.cluster, members, list(self.removed), self.bootstrap]))

    @classmethod
    def decode(cls, data: bytes) -> Membership:
        """Read what `encode` wrote. Raises ProtocolError for anything else."""
        value = unpackb(data)
        if not isinstance(value, list) or len(value) != 4:
            raise ProtocolError("a membership is not a list of four")
        cluster, members, removed, bootstrap = value
        if not _are_numbers((cluster, bootstrap)) or not isinstance(removed, list):
            raise ProtocolError("a membership has bad numbers")
        if not _are_numbers(removed) or not isinstance(members, list):
            raise ProtocolError("a membership has bad lists")
        found = tuple(_read_member(member) for member in members)
        if [m.nid for m in found] != sorted({m.nid for m in found}):
            raise ProtocolError("the members of a membership are not sorted by name")
        return cls(cluster, found, tuple(removed), bootstrap)

    def _member(self, nid: str) -> Member:
        member = self.get(nid)
        if member is None:
            raise MembershipError(f"no member is called {nid}")
        return member

    def _check_incarnation(self, nid: str, incarnation: int) -> None:
        if incarnation in self.removed:
            raise MembershipError(
                f"node {nid} was removed from the cluster; its files must go before it can return"
            )
        if any(member.incarnation == incarnation for member in self.members):
            raise MembershipError(f"node {nid} runs on a copy of another member's files")

    def _with(self, member: Member) -> Membership:
        others = [other for other in self.members if other.nid != member.nid]
        return self._changed(tuple(sorted([*others, member])), self.removed)

    def _without(self, member: Member, name: str) -> Membership:
        if member.is_voter and len(self.voters) == 1:
            raise MembershipError(f"{name} is the only voter and cannot leave")
        others = tuple(other for other in self.members if other.nid != member.nid)
        return self._changed(others, (*self.removed, member.incarnation)[-TOMBSTONES_MAX:])

    def _changed(self, members: tuple[Member, ...], removed: tuple[int, ...]) -> Membership:
        new = self._replace(members=members, removed=removed)
        is_settled = self.is_complete or new.is_complete
        return new._replace(bootstrap=0) if is_settled else new


def _are_numbers(values: list[object] | tuple[object, ...]) -> bool:
    return all(type(value) is int and 0 <= value < 2**64 for value in values)


def _read_member(value: object) -> Member:
    if not isinstance(value, list) or len(value) != 4:
        raise ProtocolError("a member is not a list of four")
    nid, addr, incarnation, role = value
    if not isinstance(nid, str) or not isinstance(addr, str) or role not in ROLES:
        raise ProtocolError("a member has a bad name, address or role")
    if not _are_numbers((incarnation,)):
        raise ProtocolError("a member has a bad incarnation")
    return Member(nid, addr, incarnation, role)
