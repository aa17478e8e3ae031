#!/bin/sh
# Bazel says in TEST_SHARD_INDEX and TEST_TOTAL_SHARDS which part this is, and looks for the report in XML_OUTPUT_FILE.
exec "${TRACECTL:-tracectl}" corpus run "$1" ${XML_OUTPUT_FILE:+--junit "$XML_OUTPUT_FILE"}
