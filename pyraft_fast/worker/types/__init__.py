"""The values that keys hold besides plain strings: lists, hashes, sets, sorted sets, tree nodes.

Each type is cheap where Redis promises that it is, reads like its Python twin for handlers that
users write, and never lets hash randomisation decide an order. A hash is a plain `dict`.
"""

from __future__ import annotations

from pyraft_fast.worker.types.lists import RedisList
from pyraft_fast.worker.types.pairs import FlatMap, Pairs
from pyraft_fast.worker.types.sets import Members, RedisSet
from pyraft_fast.worker.types.trees import TreeNode
from pyraft_fast.worker.types.zsets import SortedSet

__all__ = ["FlatMap", "Members", "Pairs", "RedisList", "RedisSet", "SortedSet", "TreeNode"]
