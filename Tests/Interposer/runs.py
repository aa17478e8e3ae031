#!/usr/bin/env python3
# Reads `tracectl dump --json` and prints the runs that a client made, VCPU by VCPU: what went in and what came out, as far
# as the interface shows it. Slices, which a library makes of one run, are put together again.
import json
import sys

runs = {}
open_run = {}
for line in sys.stdin:
    step = json.loads(line)
    if "step" not in step:
        continue
    vcpu = step["vcpu"]
    run = open_run.get(vcpu)
    if run is None:
        run = {"committed": step.get("committed", []), "event": step.get("event"), "retired": 0}
    run["retired"] += step.get("retired") or 0
    # None of the clients that this is used for has signal handlers, which end a run so as well.
    if step["exit"]["reason"] == "NONE" and step["entered"]:
        open_run[vcpu] = run
        continue
    open_run[vcpu] = None
    for key in ("entered", "failed", "exit", "exitState", "cached"):
        run[key] = step.get(key)
    if not run["entered"]:
        # The library fills in what the client would see; what waits to be committed stands in the page.
        run["exitState"] = None
    elif "gprs" in run["cached"]:
        run["rip"], run["rax"] = step["registers"]["rip"], step["registers"]["rax"]
    runs.setdefault(vcpu, []).append(run)
for vcpu in sorted(runs):
    for run in runs[vcpu]:
        print(vcpu, json.dumps(run, sort_keys=True))
sys.exit(0 if runs else 1)
