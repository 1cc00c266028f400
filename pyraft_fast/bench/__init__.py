"""`pyraft-fast bench`: our nodes and the peers on this machine, measured in turn and drawn.

Everything is driven from outside: programs are started, spoken to over their own protocols, and
watched through /proc and INFO. Nothing of a node's inside is imported, so that a figure cannot
depend on it. The parts:

- `model`: a point (what is measured), a figure (what came out), medians and ratios;
- `works`: the commands that can be measured;
- `peers`, `foreign`: how each kind of server is started, found and stopped;
- `generator`, `replies`, `load`: the load, open or closed loop, or redis-benchmark's;
- `measure`: CPU, wake-ups, memory and fsyncs of processes;
- `suites`: which points are measured on which servers; `scenes`: what is not a rate;
- `targets`: the ratios this project wants, and what was reached;
- `report`, `draw`, `run`: text, JSON, HTML, and the command itself.
"""
