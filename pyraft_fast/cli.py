"""The `pyraft-fast` command: run a node, look into its files, measure, or save what is left.

Errors a user can cause end in one line on standard error: status 2 for flags that cannot be
used, status 1 for a node that cannot start or had to stop.

What a command needs is imported by that command: a node starts without the rest, and Ctrl-C at any
time from the first imports on ends without a traceback.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence

from pyraft_fast.errors import ConfigError, RaftException

GC_THRESHOLDS = (20_000, 50, 100)  # a pipeline of commands makes some thousand lists and tuples
RUN_HELP = """\
  pyraft-fast -a 127.0.0.1:5010 -i 1
  pyraft-fast -a 127.0.0.1:5010 -i 1 -e 2/127.0.0.1:5020,3/127.0.0.1:5030
  pyraft-fast dump FILE        print a log or snapshot file as readable lines
  pyraft-fast bench            measure nodes beside redis-server and other peers on this machine
  pyraft-fast recover          make a cluster of one of a survivor, when a majority is lost for
                               good (see pyraft-fast recover --help)
"""


def run_node(argv: Sequence[str]) -> int:
    """Start a node from its flags and wait until it has stopped."""
    from pyraft_fast.raft import make_default_node

    parser = argparse.ArgumentParser(
        prog="pyraft-fast",
        description="A replicated, linearizable state machine that speaks the Redis protocol.",
        epilog=RUN_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    node = make_default_node(parser, argv)
    gc.collect()
    gc.freeze()  # what is there now stays; commands come and go, and hold no cycles
    gc.set_threshold(*GC_THRESHOLDS)
    return node.run()


def dump_files(argv: Sequence[str]) -> int:
    """Print files of a node, a record a line."""
    from pyraft_fast.storage.dump import lines

    parser = argparse.ArgumentParser(prog="pyraft-fast dump", description=dump_files.__doc__)
    parser.add_argument("file", nargs="+", help="a raft_*.log or raft_*.dat file")
    for name in parser.parse_args(argv).file:
        for line in lines(name):
            sys.stdout.write(line + "\n")
    return 0


def recover_node(argv: Sequence[str]) -> int:
    """Make a one-node cluster from a survivor's files; see `recover`."""
    from pyraft_fast import recover

    return recover.run(argv, sys.stdout, sys.stdin)


def bench(argv: Sequence[str]) -> int:
    """Measure nodes and peers; see `bench`."""
    from pyraft_fast.bench.run import run

    return run(argv, sys.stdout, sys.stderr)


COMMANDS = {"bench": bench, "dump": dump_files, "recover": recover_node}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script; returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and words[0] in COMMANDS:
            return COMMANDS[words[0]](words[1:])
        return run_node(words)
    except RaftException as error:
        sys.stderr.write(f"pyraft-fast: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
