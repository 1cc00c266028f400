"""A node of the tree commands: a dict whose own type keeps hash commands away from it."""

from __future__ import annotations

from typing import Any


class TreeNode(dict[str, Any]):
    """Attributes by name; an entry that is a dict is a child node."""

    __slots__ = ()

    def children(self) -> list[str]:
        """Names of the child nodes, in the order they were made."""
        return [name for name, value in self.items() if isinstance(value, dict)]

    def attributes(self) -> dict[str, Any]:
        """The entries that are not child nodes."""
        return {name: value for name, value in self.items() if not isinstance(value, dict)}
