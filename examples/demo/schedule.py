"""Search for a good schedule of a run of a pipeline on 1 to 8 machines, and report progress on the way."""

import heapq
import json
import os
import random
import sys

TRIES = 6000
MACHINES = (1, 2, 4, 8)

steps = {step["key"]: step for step in json.load(sys.stdin)["tasks"]}
children = {key: [] for key in steps}
for key, step in steps.items():
    for parent in step["depends_on"]:
        children[parent].append(key)


def makespan(machines, rank):
    """Seconds until the last step ends if free machines always take the ready step of the lowest rank."""
    waits = {key: len(step["depends_on"]) for key, step in steps.items()}
    ready = [(rank[key], key) for key, left in waits.items() if left == 0]
    heapq.heapify(ready)
    running, now, free = [], 0.0, machines
    while ready or running:
        while ready and free:
            _, key = heapq.heappop(ready)
            heapq.heappush(running, (now + steps[key]["runtime_s"], key))
            free -= 1
        now, done = heapq.heappop(running)
        free += 1
        for child in children[done]:
            waits[child] -= 1
            if waits[child] == 0:
                heapq.heappush(ready, (rank[child], child))
    return now


def report(percent, note):
    """Tell the task queue how far we are."""
    os.write(int(os.environ["CLAWQ_PROGRESS_FD"]), json.dumps({"progress": percent, "note": note}).encode() + b"\n")


random.seed(41)
alone = sum(step["runtime_s"] for step in steps.values())
print("machines  seconds  speed-up")
for position, machines in enumerate(MACHINES):
    best = float("inf")
    for attempt in range(TRIES):
        best = min(best, makespan(machines, {key: random.random() for key in steps}))
        if attempt % 200 == 0:
            done = position + attempt / TRIES
            report(int(100 * done / len(MACHINES)), f"{machines} machines")
    print(f"{machines:8}  {best:7.1f}  {alone / best:7.2f}x")
