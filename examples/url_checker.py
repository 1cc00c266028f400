"""The leader, and only the leader, checks every URL stored under a key that starts with url_.

python3 url_checker.py -a 127.0.0.1:5010 -i 1 --every 5
redis-cli -p 5010 set url_docs http://127.0.0.1:8000/
"""

import argparse
import threading
import urllib.request

from pyraft_fast import raft


def check(name, url, seconds):
    if not url.startswith("http"):
        url = "https://" + url
    try:
        urllib.request.urlopen(url, timeout=seconds).read()
    except Exception as error:
        print(f"url {name} is bad - {error}", flush=True)
    else:
        print(f"url {name} is ok", flush=True)


def check_urls(node):
    # A new leader starts its own thread; this one ends as soon as it no longer leads.
    while not node.shutdown_flag and node.state == "l":
        with node.data_lock:
            urls = {key: url for key, url in node.data.items() if key.startswith("url_")}
        for name, url in urls.items():
            check(name, url, seconds=node.every)
        node.shutdown_event.wait(node.every)


def start_checking(node):
    print("url check start...", flush=True)
    node.checker = threading.Thread(target=check_urls, args=(node,))
    node.checker.start()


parser = argparse.ArgumentParser()
parser.add_argument("--every", type=float, default=5.0, help="seconds between rounds")
node = raft.make_default_node(parser)
node.every = node.args.every
node.worker.handler["on_leader"] = start_checking
node.start()
node.join()
