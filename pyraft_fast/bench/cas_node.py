"""A node with one more command in plain Python, CAS key expected value, as in examples/cas.py."""

from __future__ import annotations

from typing import Any

from pyraft_fast import raft


def do_cas(node: Any, words: list[str]) -> Any:
    """Set a key to a value if it holds what is expected; answers what it held."""
    _, key, expected, value = words
    held = node.data.get(key)
    if held != expected:
        return held
    node.data[key] = value
    node.clear_ttl(key)
    return expected


def main() -> int:
    """Run the node until it is stopped."""
    node = raft.make_default_node()
    node.worker.handler["cas"] = [do_cas, "we", 3, 3]
    node.start()
    node.join()
    return int(node.exit_status)


if __name__ == "__main__":
    raise SystemExit(main())
