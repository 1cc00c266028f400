"""What lies on disk: file names, the log's segments, snapshots, and how each is read back.

This room decides formats and what a byte on disk proves. It knows no peers, clients or handlers,
starts no thread and never logs: what it finds it returns, what it cannot accept it raises.
"""
