"""`python -m pyraft_fast` is the same as the `pyraft-fast` command."""

import sys

from pyraft_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
