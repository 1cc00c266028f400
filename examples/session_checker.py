"""The leader reports sessions that were not renewed for a minute.

A session is a key session_NAME that holds the epoch second of its last sign of life:

python3 session_checker.py -a 127.0.0.1:5010 -i 1 --every 5
redis-cli -p 5010 set session_ann $(date +%s)
"""

import argparse
import threading
import time

from pyraft_fast import raft


def check_sessions(node):
    while not node.shutdown_flag and node.state == "l":
        with node.data_lock:
            sessions = {key: seen for key, seen in node.data.items() if key.startswith("session_")}
        for name, last_seen in sessions.items():
            age = time.time() - int(last_seen)
            word = "ok" if age < node.args.lifetime else "EXPIRED"
            print(f"session {name} is {word} (age: {age:.0f} s)", flush=True)
        node.shutdown_event.wait(node.args.every)


def start_checking(node):
    node.checker = threading.Thread(target=check_sessions, args=(node,))
    node.checker.start()


parser = argparse.ArgumentParser()
parser.add_argument("--every", type=float, default=5.0, help="seconds between rounds")
parser.add_argument("--lifetime", type=float, default=60.0, help="seconds a session lives")
node = raft.make_default_node(parser)
node.worker.handler["on_leader"] = start_checking
node.start()
node.join()
