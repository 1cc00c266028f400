"""One tree of errors, each with the code word a Redis client sees.

The class says what a caller may conclude, which matters most for writes: `TryAgain` and
`ClusterDown` promise that the command did not happen, `Uncertain` says that it may have.
`InvariantError` is different from all others: it means that this program is wrong, and the
process that raised it must stop rather than go on.
"""

from __future__ import annotations


class RaftException(Exception):
    """Base of every error this package raises on purpose; `code` is its Redis code word."""

    code = "ERR"

    def wire(self) -> str:
        """The error line without its leading `-` and CR LF; control characters become blanks."""
        text = f"{self.code} {self}" if self.code else str(self)
        return text.replace("\r", " ").replace("\n", " ")


class CommandError(RaftException):
    """The command is refused as it stands: unknown, wrong arguments, bad value."""


class WrongType(CommandError):
    """The key holds another kind of value (Redis: WRONGTYPE)."""

    code = "WRONGTYPE"

    def __init__(
        self, text: str = "Operation against a key holding the wrong kind of value"
    ) -> None:
        super().__init__(text)


class HandlerError(RaftException):
    """A handler raised; the message names the handler. Its earlier changes stay."""


class ProtocolError(RaftException):
    """A client or peer broke its protocol; that one connection is answered and closed."""


class ReplyError(RaftException):
    """An error that the other side of a connection answered; the text is the line as it came.

    `code` is its first word, empty when there is none.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]

    def wire(self) -> str:
        """The line as it came; control characters become blanks."""
        return str(self).replace("\r", " ").replace("\n", " ")


class NoProto(RaftException):
    """HELLO asked for a protocol version other than 2 or 3."""

    code = "NOPROTO"


class NoAuth(RaftException):
    """The connection has not authenticated."""

    code = "NOAUTH"


class WrongPass(RaftException):
    """The password is wrong, or none is configured."""

    code = "WRONGPASS"


class Loading(RaftException):
    """The node still recovers its state; nothing was executed."""

    code = "LOADING"


class TryAgain(RaftException):
    """Leadership moves or a limit is reached; the command surely did not happen."""

    code = "TRYAGAIN"


class ClusterDown(RaftException):
    """No leader is known or no majority answers; the command surely did not happen."""

    code = "CLUSTERDOWN"


class Uncertain(RaftException):
    """The command may or may not have happened, now or later; read before you repeat it."""

    code = "UNCERTAIN"


class MembershipError(RaftException):
    """A membership change is refused; the message says why and what to do."""


class ConfigError(RaftException):
    """Flags or settings cannot be used; the command line exits with status 2."""


class StartError(RaftException):
    """The node cannot start here (port in use, folder locked or unwritable); exit status 1."""


class StorageError(RaftException):
    """A file of the node cannot be read or written; the message names it.

    `errno` is the operating system's number, or None where the system was not at fault.
    """

    def __init__(self, text: str = "", errno: int | None = None) -> None:
        super().__init__(text)
        self.errno = errno


class DamagedFile(StorageError):
    """A file holds bytes that were acknowledged and are now wrong; the node must not go on."""


class SnapshotError(StorageError):
    """A value cannot be put into a snapshot; the message names its key. The log is kept."""


class InvariantError(RaftException):
    """This program broke one of its own rules; the process stops with the state in the text."""


def check(condition: object, rule: str, *facts: object) -> None:
    """Hold `rule` at a border, on in production too (`assert` is not).

    Raises InvariantError with the rule and the facts when `condition` is false.
    """
    if not condition:
        shown = ", ".join(repr(fact) for fact in facts)
        raise InvariantError(f"invariant broken: {rule} ({shown})")
