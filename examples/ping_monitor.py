"""Nodes check a list of targets, write what they see into the replicated state, and the leader
decides: a target is down when two thirds of the nodes say so.

A target is HOST:PORT and is up when it takes a TCP connection.

python3 ping_monitor.py -a 127.0.0.1:5010 -i 1 --targets 127.0.0.1:80,127.0.0.1:22
"""

import argparse
import asyncio
import threading

from pyraft_fast import raft


class PingMonitor(raft.RaftNode):
    """A node that also watches; overriding `on_start` is the hook."""

    def on_start(self):
        super().on_start()
        self.fails = {}
        self.down = set()
        self.checker = threading.Thread(target=lambda: asyncio.run(self.watch()))
        self.checker.start()

    async def watch(self):
        while not self.shutdown_flag:
            await asyncio.gather(*(self.check(target) for target in self.args.targets))
            if self.state == "l":
                for target in self.args.targets:
                    await self.decide(target)
            await asyncio.sleep(self.args.every)

    async def check(self, target):
        host, _, port = target.rpartition(":")
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 1.0)
            writer.close()
            fails = 0
        except (OSError, asyncio.TimeoutError):
            fails = self.fails.get(target, 0) + 1
        if self.fails.get(target) != fails:
            await self.vote(target, fails)

    async def vote(self, target, fails):
        try:
            await self.request_async("hset", f"hc_{target}", self.nid, fails)
        except raft.RaftException as error:  # no leader right now: say it again next time
            self.log_warn(f"vote on {target} not counted: {error}")
        else:
            self.fails[target] = fails

    async def decide(self, target):
        try:
            flat = await self.request_async("hgetall", f"hc_{target}")
        except raft.RaftException as error:
            self.log_warn(f"no decision on {target}: {error}")
            return
        votes = [int(fails) >= self.args.fails for fails in flat[1::2]]
        failed = bool(votes) and sum(votes) * 3 >= len(votes) * 2
        if failed and target not in self.down:
            self.down.add(target)
            print(f"target {target} is DOWN ({sum(votes)} of {len(votes)} nodes)", flush=True)
        elif not failed and target in self.down:
            self.down.discard(target)
            print(f"target {target} is up again", flush=True)


parser = argparse.ArgumentParser()
parser.add_argument("--targets", type=lambda text: text.split(","), default=["127.0.0.1:22"])
parser.add_argument("--every", type=float, default=1.0, help="seconds between rounds")
parser.add_argument("--fails", type=int, default=5, help="failed rounds in a row that count")
args = raft.parse_default_args(parser)
node = PingMonitor(args.nid, args.addr, args.ensemble_map, **raft.settings_of(args))
node.args = args
node.start()
node.join()
