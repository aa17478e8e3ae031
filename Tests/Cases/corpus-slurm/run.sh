# needs: tool slurmctld
# needs: tool munged
# needs: root
# A real Slurm, controller and two nodes on loopback: an array over the corpus, one task of which is killed and requeued;
# the merged result is that of the run without shards.
for guest in hello selfmod exerciser longmode timestamps; do
    for memory in 2M 4M; do
        tracectl record --guest "$GUESTS/$guest.bin" --memory $memory -o "$guest-$memory.vmtrace" >/dev/null
    done
done
tracectl corpus init corpus >/dev/null
tracectl corpus add corpus ./*.vmtrace >/dev/null
tracectl corpus run corpus --results whole.jsonl | tail -n 1

# A cluster of this folder's own.
work=$PWD
port=$((20000 + $$ % 20000))
mkdir -p state spool1 spool2 munge results
chmod 700 munge
dd if=/dev/urandom of=munge/key bs=1 count=128 2>/dev/null
chmod 400 munge/key
cat >slurm.conf <<CONF
ClusterName=loopback
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool-%n
SlurmctldPidFile=$work/controller.pid
SlurmdPidFile=$work/%n.pid
SlurmctldLogFile=$work/controller.log
SlurmdLogFile=$work/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/linear
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
MpiDefault=none
JobCompType=jobcomp/none
KillWait=1
MinJobAge=3600
RequeueExit=137
NodeName=one,two NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=$((port + 1)),$((port + 2)) CPUs=1
PartitionName=all Nodes=one,two Default=YES MaxTime=10 State=UP
CONF
export SLURM_CONF=$work/slurm.conf
servers=()
# serve COMMAND...: goes on until the case ends.
serve() {
    "$@" >/dev/null 2>&1 &
    servers+=($!)
}
trap 'kill -9 "${servers[@]}"; wait 2>/dev/null' EXIT
serve munged --foreground --force --key-file="$work/munge/key" --socket="$work/munge/socket" \
    --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed"
until [ -S munge/socket ]; do sleep 0.05; done
serve slurmctld -D -c
serve slurmd -D -N one
serve slurmd -D -N two
for _ in $(seq 1 100); do
    [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ] && break
    sleep 0.2
done
sinfo -h -o '%D %T'

# The task kills itself in the middle the first time: Slurm queues it again.
cat >once.sh <<SCRIPT
#!/bin/bash
if [ "\$SLURM_ARRAY_TASK_ID" = 4 ] && [ "\${SLURM_RESTART_COUNT:-0}" = 0 ]; then
    "$(command -v tracectl)" corpus run "\$CORPUS" --jobs 1 --results "\$RESULTS/4.jsonl" &
    until [ -s "\$RESULTS/4.jsonl" ]; do sleep 0.01; done
    kill -9 \$! && touch "$work/was-killed"
    scontrol requeue "\${SLURM_ARRAY_JOB_ID}_4"
    sleep 60
fi
exec bash "$ROOT/Samples/ci/slurm.sbatch"
SCRIPT
export CORPUS=$work/corpus RESULTS=$work/results TRACECTL=$(command -v tracectl)
job=$(sbatch --parsable --requeue --array=1-4 --output="$work/task-%a.txt" --open-mode=append once.sh)
for _ in $(seq 1 600); do
    [ -z "$(squeue -h -j "$job" 2>/dev/null)" ] && break
    # Slurm lets what was requeued wait for two minutes.
    [ -e was-killed ] && scontrol update "JobId=${job}_4" StartTime=now 2>/dev/null
    sleep 0.2
done
ls was-killed
ls results
scontrol show job "$job" 2>/dev/null | grep -o 'JobState=[A-Z]*' | sort | uniq -c | sed 's/^ *//'
scontrol show job "${job}_4" 2>/dev/null | grep -o 'Restarts=[0-9]*'
tracectl corpus merge results/*.jsonl --corpus corpus -o merged.jsonl
python3 - <<'PYTHON'
import json
def results(path):
    lines = [json.loads(line) for line in open(path)]
    for line in lines: line.pop("seconds")
    return sorted(lines, key=lambda line: line["name"])
print("the same as without shards:", results("whole.jsonl") == results("merged.jsonl"))
PYTHON
