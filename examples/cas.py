"""A command of our own: CAS key expected value, an atomic compare and set.

It answers `expected` when the value was set, otherwise what the key holds instead; the word
`none` stands for a key that does not exist.

python3 cas.py -a 127.0.0.1:5010 -i 1
redis-cli -p 5010 cas owner none ann     -> "none": ann owns it now
redis-cli -p 5010 cas owner none bob     -> "ann": bob came late
"""

from pyraft_fast import raft


def do_cas(node, words):
    _, key, expected, value = words
    held = node.data.get(key)
    if held is None and expected.lower() != "none":
        return None
    if held is not None and held != expected:
        return held
    node.data[key] = value
    node.clear_ttl(key)
    return expected


node = raft.make_default_node()
node.worker.handler["cas"] = [do_cas, "we", 3, 3]  # function, write + log entry, 3 to 3 words
node.start()
node.join()
