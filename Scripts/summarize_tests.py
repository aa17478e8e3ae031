#!/usr/bin/env python3
"""Counts the tests of a Swift Testing event stream (JSON, one record a line) and names failures and skips.

Usage: summarize_tests.py EVENTS STATUS      STATUS: exit status of `swift test`
The last line is `N passed, N failed, N skipped`; exit status 1 if a test failed or did not end, or STATUS is not 0.
"""
import json
import sys


def main():
    events_path, runner_status = sys.argv[1], int(sys.argv[2])
    kinds = {}  # test id -> suite or function
    names = {}
    started, failed, ended = set(), set(), set()
    skipped = {}
    with open(events_path, encoding="utf-8") as stream:
        for line in stream:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a crashed run leaves half a line
            payload = record["payload"]
            if record["kind"] == "test":
                kinds[payload["id"]] = payload["kind"]
                names[payload["id"]] = payload.get("displayName") or payload["name"]
                continue
            test = payload.get("testID")
            event = payload["kind"]
            if event == "testStarted":
                started.add(test)
            elif event == "testEnded":
                ended.add(test)
            elif event == "testSkipped":
                skipped[test] = " ".join(message["text"] for message in payload["messages"])
            elif event == "issueRecorded":
                issue = payload.get("issue", {})
                if not issue.get("isKnown") and issue.get("isFailure", True):
                    failed.add(test)

    def label(test):
        return f"{test.split('.')[0]}: {names.get(test, test)}" if test else "(outside a test)"

    functions = {test for test, kind in kinds.items() if kind == "function"}
    unended = (started - ended - set(skipped)) & functions
    failed |= unended
    passed = (ended - failed) & functions
    skips = set(skipped) & functions
    for test in sorted(unended, key=str):
        print(f"did not end: {label(test)}")
    for test in sorted(failed - unended, key=str):
        print(f"failed: {label(test)}")
    for test in sorted(skips):
        reason = skipped[test].rpartition(" skipped: ")[2].strip('"') or "no reason given"
        print(f"skipped: {label(test)}: {reason}")
    if runner_status != 0 and not failed:
        print(f"swift test ended with status {runner_status} without a failed test: it stopped early")
    print(f"{len(passed)} passed, {len(failed)} failed, {len(skips)} skipped")
    bad = failed or runner_status != 0 or not passed
    return 1 if bad else 0


sys.exit(main())
