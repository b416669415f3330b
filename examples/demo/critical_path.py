"""Find the longest chain of a run of a pipeline that comes in as JSON on standard input."""

import json
import sys
from functools import cache

steps = {step["key"]: step for step in json.load(sys.stdin)["tasks"]}


@cache
def finish(key):
    """Earliest finish of a step in seconds, and the chain that leads to it."""
    waited, chain = max((finish(parent) for parent in steps[key]["depends_on"]), default=(0.0, ()))
    return waited + steps[key]["runtime_s"], (*chain, key)


seconds, chain = max(finish(key) for key in steps)
work = sum(step["runtime_s"] for step in steps.values())
print(f"{len(steps)} steps, {work:.1f} s of work")
print(f"longest chain: {seconds:.1f} s in {len(chain)} steps")
for key in chain:
    print(f"  {steps[key]['runtime_s']:7.2f} s  {key.split('_')[0]}")
