"""`python -m pyraft_fast.run_raft`: pyraft's way to start a plain node."""

import sys

from pyraft_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
