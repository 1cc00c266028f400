"""A plain node, as `pyraft-fast` starts it.

python3 plain_node.py -a 127.0.0.1:5010 -i 1
"""

from pyraft_fast import raft

node = raft.make_default_node()
node.start()
node.join()
