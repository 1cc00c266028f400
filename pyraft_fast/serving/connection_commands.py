"""Commands that concern one connection alone: never in the log, answered in every state.

Each takes the connection and the words and returns a reply value. All but PING and ECHO change
what later answers look like or what later commands may do, so the desk runs them only when
everything before them on their connection is answered.

Shapes and texts are those of Redis 7.2 (https://redis.io/commands/?group=connection).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pyraft_fast.errors import CommandError, ConfigError, NoAuth, NoProto, RaftException, WrongPass
from pyraft_fast.protocol.replies import Map, Status, Verbatim
from pyraft_fast.read_level import parse_level
from pyraft_fast.worker.info import REDIS_VERSION
from pyraft_fast.worker.words import OUT_OF_RANGE, integer

if TYPE_CHECKING:
    from pyraft_fast.serving.connection import Connection

SERVER_NAME: Final = "redis"  # what client libraries expect to see in HELLO
INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1  # Redis' numbers of databases
NO_CLIENT_ID: Final = "client-id should be greater than 0"
SPEAK, SKIP, MUTE = range(3)  # CLIENT REPLY ON, SKIP, OFF

OK: Final = Status("OK")
PONG: Final = Status("PONG")

Words = list[str]


def ping(connection: Connection, words: Words) -> Any:
    """PING [message]: PONG, or the message."""
    return words[1] if len(words) > 1 else PONG


def echo(connection: Connection, words: Words) -> Any:
    """ECHO message."""
    return words[1]


def hello(connection: Connection, words: Words) -> Any:
    """HELLO [2|3] [AUTH user password] [SETNAME name]: all or nothing."""
    proto = connection.proto
    at = 1
    if len(words) > 1:
        at = 2
        proto = integer(words[1], "Protocol version is not an integer or out of range")
        if proto not in (2, 3):
            raise NoProto("unsupported protocol version")
    name: str | None = None
    authenticated = connection.authenticated
    while at < len(words):
        option, left = words[at].upper(), len(words) - at - 1
        if option == "AUTH" and left >= 2:
            check_password(connection, words[at + 1], words[at + 2])
            authenticated = True
            at += 3
        elif option == "SETNAME" and left >= 1:
            name = valid_name(words[at + 1])
            at += 2
        else:
            raise CommandError(f"Syntax error in HELLO option '{words[at][:128]}'")
    if not authenticated:
        raise no_auth_hello()
    connection.authenticated = True
    connection.proto = proto
    if name is not None:
        connection.name = name
    return Map(
        {
            "server": SERVER_NAME,
            "version": REDIS_VERSION,
            "proto": proto,
            "id": connection.id,
            "mode": "standalone",
            "role": "master",
            "modules": [],
        }
    )


def no_auth_hello() -> RaftException:
    """The error for HELLO without AUTH where a password is needed."""
    return NoAuth(
        "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> "
        "AUTH <user> <pass> option can be used to authenticate the client and select the RESP "
        "protocol version at the same time"
    )


def check_password(connection: Connection, user: str, given: str) -> None:
    """Raise WrongPass unless `given` is the node's password (any is, when none is set)."""
    password = connection.desk.password
    if user != "default":
        raise WrongPass("invalid username-password pair or user is disabled.")
    if password is None:
        return
    left = given.encode("utf-8", "surrogateescape")
    if not hmac.compare_digest(left, password.encode("utf-8", "surrogateescape")):
        raise WrongPass("invalid username-password pair or user is disabled.")


def auth(connection: Connection, words: Words) -> Any:
    """AUTH [user] password."""
    if len(words) == 2 and connection.desk.password is None:
        raise CommandError(
            "AUTH <password> called without any password configured for the default user. Are "
            "you sure your configuration is correct?"
        )
    user, given = ("default", words[1]) if len(words) == 2 else (words[1], words[2])
    check_password(connection, user, given)
    connection.authenticated = True
    return OK


def quit_(connection: Connection, words: Words) -> Any:
    """QUIT: OK, then the connection is closed."""
    return {"quit_after_send": OK}


def reset(connection: Connection, words: Words) -> Any:
    """RESET: the connection as it was when it was new."""
    connection.proto = 2
    connection.name = ""
    connection.mute = SPEAK
    connection.level = connection.desk.gate.default
    connection.authenticated = connection.desk.password is None
    return Status("RESET")


def select(connection: Connection, words: Words) -> Any:
    """SELECT 0; there is no other database."""
    index = integer(words[1])
    if not INT32_MIN <= index <= INT32_MAX:
        raise CommandError(f"{OUT_OF_RANGE}, value must between {INT32_MIN} and {INT32_MAX}")
    if index != 0:
        raise CommandError("DB index is out of range")
    return OK


def ok(connection: Connection, words: Words) -> Any:
    """OK, for what needs no doing here."""
    return OK


# CLIENT and its subcommands


def valid_name(name: str) -> str:
    """A client name without blanks and control characters; raises CommandError otherwise."""
    if any(not "!" <= character <= "~" for character in name):
        raise CommandError("Client names cannot contain spaces, newlines or special characters.")
    return name


def client(connection: Connection, words: Words) -> Any:
    """CLIENT and its subcommands."""
    name = words[1].lower()
    row = CLIENT_COMMANDS.get(name)
    if row is None:
        raise CommandError(f"unknown subcommand '{words[1][:128]}'. Try CLIENT HELP.")
    function, least, most = row
    if len(words) < least or (most >= 0 and len(words) > most):
        raise CommandError(f"wrong number of arguments for 'client|{name}' command")
    return function(connection, words)


def client_setname(connection: Connection, words: Words) -> Any:
    """CLIENT SETNAME name."""
    connection.name = valid_name(words[2])
    return OK


def client_getname(connection: Connection, words: Words) -> Any:
    """CLIENT GETNAME: nil when there is none."""
    return connection.name or None


def client_setinfo(connection: Connection, words: Words) -> Any:
    """CLIENT SETINFO LIB-NAME|LIB-VER value."""
    field = words[2].lower()
    if any(not "!" <= character <= "~" for character in words[3]):
        raise CommandError(f"{field} cannot contain spaces, newlines or special characters.")
    if field == "lib-name":
        connection.lib_name = words[3]
    elif field == "lib-ver":
        connection.lib_ver = words[3]
    else:
        raise CommandError(f"Unrecognized option '{words[2][:128]}'")
    return OK


def client_id(connection: Connection, words: Words) -> Any:
    """CLIENT ID: grows with every connection to this node."""
    return connection.id


def describe(connection: Connection) -> str:
    """One line of CLIENT LIST."""
    now = connection.desk.now()
    return (
        f"id={connection.id} addr={connection.peer} name={connection.name} "
        f"age={int(now - connection.born)} idle={int(now - connection.seen)} flags=N db=0 "
        f"sub=0 psub=0 multi=-1 omem={len(connection.out)} "
        f"cmd={connection.last_command or 'NULL'} user=default resp={connection.proto} "
        f"lib-name={connection.lib_name} lib-ver={connection.lib_ver} "
        f"consistency={connection.level.wanted}"
    )


def client_info(connection: Connection, words: Words) -> Any:
    """CLIENT INFO: this connection as CLIENT LIST shows it."""
    return Verbatim(describe(connection) + "\n")


def client_list(connection: Connection, words: Words) -> Any:
    """CLIENT LIST [TYPE type | ID id ...]: a line for each connection."""
    clients = connection.desk.clients
    chosen = list(clients.values())
    if len(words) > 2:
        option = words[2].upper()
        if option == "ID" and len(words) > 3:
            numbers = [integer(word, "Invalid client ID") for word in words[3:]]
            chosen = [clients[number] for number in numbers if number in clients]
        elif option == "TYPE" and len(words) == 4:
            kind = words[3].lower()
            if kind not in ("normal", "master", "replica", "slave", "pubsub"):
                raise CommandError(f"Unknown client type '{words[3][:128]}'")
            chosen = chosen if kind == "normal" else []
        else:
            raise CommandError("syntax error")
    return Verbatim("".join(describe(one) + "\n" for one in chosen))


def client_kill(connection: Connection, words: Words) -> Any:
    """CLIENT KILL addr:port, or filters ID, ADDR, SKIPME; the latter answers how many."""
    clients = list(connection.desk.clients.values())
    if len(words) == 3:
        found = [one for one in clients if one.peer == words[2]]
        if not found:
            raise CommandError("No such client")
        kill(connection, found)
        return OK
    if len(words) % 2:
        raise CommandError("syntax error")
    skip_me = True
    for option, value in zip(words[2::2], words[3::2], strict=True):
        option = option.upper()
        if option == "ID":
            wanted = integer(value, NO_CLIENT_ID)
            if wanted <= 0:
                raise CommandError(NO_CLIENT_ID)
            clients = [one for one in clients if one.id == wanted]
        elif option == "ADDR":
            clients = [one for one in clients if one.peer == value]
        elif option == "SKIPME" and value.lower() in ("yes", "no"):
            skip_me = value.lower() == "yes"
        elif option in ("TYPE", "USER", "LADDR", "MAXAGE"):
            if (option, value.lower()) not in (("TYPE", "normal"), ("USER", "default")):
                clients = []
        else:
            raise CommandError("syntax error")
    if skip_me:
        clients = [one for one in clients if one is not connection]
    kill(connection, clients)
    return len(clients)


def kill(connection: Connection, victims: list[Connection]) -> None:
    """Close connections: the own one behind its answer, others at once."""
    for victim in victims:
        if victim is connection:
            connection.close()
        elif victim.transport is not None:
            victim.transport.abort()


def client_reply(connection: Connection, words: Words) -> Any:
    """CLIENT REPLY ON|OFF|SKIP: SKIP silences the next command alone."""
    mode = words[2].upper()
    if mode == "ON":
        connection.mute = SPEAK
        return OK
    if mode == "OFF":
        connection.mute = MUTE
    elif mode == "SKIP":
        if connection.mute == SPEAK:
            connection.mute = SKIP
    else:
        raise CommandError("syntax error")
    return NO_REPLY


def client_on_off(connection: Connection, words: Words) -> Any:
    """CLIENT NO-EVICT|NO-TOUCH ON|OFF: nothing is ever evicted here."""
    if words[2].upper() not in ("ON", "OFF"):
        raise CommandError("syntax error")
    return OK


def client_consistency(connection: Connection, words: Words) -> Any:
    """CLIENT CONSISTENCY [linearizable | lease | local | max-age MS | default]."""
    if len(words) == 2:
        return str(connection.level.wanted).replace(":", " ")
    gate = connection.desk.gate
    if len(words) == 3 and words[2].lower() == "default":
        connection.level = gate.default
        return OK
    try:
        connection.level = gate.level(parse_level(":".join(words[2:])))
    except ConfigError as error:
        raise CommandError(str(error)) from None
    return OK


def client_help(connection: Connection, words: Words) -> Any:
    """CLIENT HELP."""
    return [Status(line) for line in CLIENT_HELP]


Function = Callable[["Connection", Words], Any]
NO_REPLY: Final = {"bypass": b""}

# name: function, least and most words with the name (most -1: any number)
CLIENT_COMMANDS: Final[dict[str, tuple[Function, int, int]]] = {
    "setname": (client_setname, 3, 3),
    "getname": (client_getname, 2, 2),
    "setinfo": (client_setinfo, 4, 4),
    "id": (client_id, 2, 2),
    "info": (client_info, 2, 2),
    "list": (client_list, 2, -1),
    "kill": (client_kill, 3, -1),
    "reply": (client_reply, 3, 3),
    "no-evict": (client_on_off, 3, 3),
    "no-touch": (client_on_off, 3, 3),
    "unpause": (ok, 2, 2),
    "consistency": (client_consistency, 2, 4),
    "help": (client_help, 2, 2),
}
CLIENT_HELP: Final = (
    "CLIENT <subcommand> [<arg> ...]. Subcommands are:",
    "CONSISTENCY [linearizable | lease | local | max-age <milliseconds> | default]",
    "    Show or choose how current the reads of this connection are.",
    "GETNAME, SETNAME <name>, SETINFO <lib-name | lib-ver> <value>",
    "    Show or set what this connection is called.",
    "ID, INFO, LIST [TYPE <type> | ID <id> ...]",
    "    Show this connection, or all.",
    "KILL <ip:port> | <option> <value> ...",
    "    Close connections; options are ID, ADDR, TYPE, USER and SKIPME.",
    "NO-EVICT, NO-TOUCH <ON | OFF>, UNPAUSE",
    "    Accepted; nothing is ever evicted or paused here.",
    "REPLY <ON | OFF | SKIP>",
    "    Choose whether commands of this connection are answered.",
    "HELP",
    "    Print this help.",
)
CONNECTION_COMMANDS: Final[dict[str, tuple[Function, int, int]]] = {
    "ping": (ping, 1, 2),
    "echo": (echo, 2, 2),
    "hello": (hello, 1, -1),
    "auth": (auth, 2, 3),
    "quit": (quit_, 1, -1),
    "reset": (reset, 1, 1),
    "select": (select, 2, 2),
    "client": (client, 2, -1),
    "readonly": (ok, 1, 1),
    "readwrite": (ok, 1, 1),
}
AT_ONCE: Final = frozenset({"ping", "echo"})
BEFORE_AUTH: Final = frozenset({"hello", "auth", "quit", "reset"})
