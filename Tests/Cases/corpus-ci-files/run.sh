# needs: file /usr/lib/python3/dist-packages/yaml/__init__.py
# The files of Samples/ci parse, name fields that their schedulers' references have, and agree with themselves and with
# tracectl's statuses; Bazel's script does its share under Bazel's variables.
for guest in hello selfmod longmode; do
    tracectl record --guest "$GUESTS/$guest.bin" --memory 4M -o $guest.vmtrace >/dev/null
done
tracectl corpus init corpus >/dev/null
tracectl corpus add corpus ./*.vmtrace >/dev/null
/usr/bin/python3 - "$ROOT/Samples/ci" <<'PYTHON'
import re, subprocess, sys, yaml
folder = sys.argv[1]
load = lambda name: yaml.safe_load(open(f"{folder}/{name}"))

job = load("kubernetes.yaml")
spec = job["spec"]
print("kubernetes:", job["apiVersion"], job["kind"], spec["completionMode"])
# https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1
known = {"completionMode", "completions", "parallelism", "backoffLimit", "backoffLimitPerIndex", "maxFailedIndexes", "podFailurePolicy", "template", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "suspend", "selector", "manualSelector", "podReplacementPolicy", "successPolicy", "managedBy"}
print(" fields:", set(spec) <= known)
template = spec["template"]["spec"]
# A policy for failed pods asks for this.
print(" never restarted in place:", template["restartPolicy"] == "Never")
container = template["containers"][0]
print(" as many as it says:", {entry["name"]: entry["value"] for entry in container["env"]}["JOB_COMPLETIONS"] == str(spec["completions"]))
rules = spec["podFailurePolicy"]["rules"]
print(" actions:", [rule["action"] for rule in rules], all(rule["action"] in ("FailJob", "FailIndex", "Ignore", "Count") for rule in rules))
values = [value for rule in rules for value in rule.get("onExitCodes", {}).get("values", [])]
print(" statuses:", sorted(values), 75 not in values and 0 not in values)
print(" containers:", all(rule["onExitCodes"]["containerName"] == container["name"] for rule in rules if "onExitCodes" in rule))
volumes = {volume["name"] for volume in template["volumes"]}
print(" volumes:", {mount["name"] for mount in container["volumeMounts"]} == volumes)

gitlab = load("gitlab-ci.yml")
print("gitlab:", gitlab["replay"]["parallel"], all(gitlab[name]["stage"] in gitlab["stages"] for name in ("replay", "merge")), gitlab["replay"]["retry"]["exit_codes"])
workflow = load("github-workflow.yml")
replay = workflow["jobs"]["replay"]
shards = replay["strategy"]["matrix"]["shard"]
run = next(step["run"] for step in replay["steps"] if "run" in step)
print("github:", shards == list(range(len(shards))), f"matrix.shard }}}}/{len(shards)}" in run, workflow["jobs"]["merge"]["needs"])

# Every option that is named is one.
help_of = lambda verb: subprocess.run(["tracectl", "help", "corpus", verb], capture_output=True, text=True).stdout
texts = [container["args"][0], *gitlab["replay"]["script"], *gitlab["merge"]["script"], run,
         *[step["run"] for step in workflow["jobs"]["merge"]["steps"] if "run" in step],
         open(f"{folder}/slurm.sbatch").read(), open(f"{folder}/bazel/replay.sh").read()]
for text in texts:
    for verb, options in re.findall(r"corpus (run|merge) ((?:[^\n]|\\\n)*)", text):
        for option in re.findall(r"(--[a-z-]+)", options):
            if option not in help_of(verb): print("no such option:", verb, option)
PYTHON
bash -n "$ROOT/Samples/ci/slurm.sbatch" && sh -n "$ROOT/Samples/ci/bazel/replay.sh"
for index in 0 1; do
    TEST_SHARD_INDEX=$index TEST_TOTAL_SHARDS=2 TEST_SHARD_STATUS_FILE=$PWD/status XML_OUTPUT_FILE=$PWD/$index.xml \
        "$ROOT/Samples/ci/bazel/replay.sh" corpus 2>/dev/null
done
[ -e status ] && cat 0.xml 1.xml | grep -c '<testcase'
