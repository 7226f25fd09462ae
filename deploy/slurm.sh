#!/usr/bin/env bash
#SBATCH --job-name=talkset
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=talkset-%j.log
#
# A run on the nodes of a Slurm job:  sbatch deploy/slurm.sh MANIFEST OUT [options of talkset run]
# Manifest, sources and OUT lie on a file system that all nodes share; `talkset` and `ray` are on PATH on all of them.
# Five minutes before its time is up the job stops the run and puts itself into the queue again, where it goes on.
set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: sbatch $0 MANIFEST OUT [options of talkset run]" >&2
  exit 2
fi
manifest=$1
out=$2
shift 2

export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export RAY_USAGE_STATS_ENABLED=0
cpus=${SLURM_CPUS_PER_TASK:-1}
port=$((20000 + SLURM_JOB_ID % 20000))
temporary=${RAY_TMPDIR:-/tmp/ray-$SLURM_JOB_ID} # node's own disk; short, because sockets lie in it

# Other users reach the ports of these nodes: whoever has no token may not give work to this cluster
umask 077
token=${TALKSET_TOKEN_FILE:-$HOME/.talkset-ray-token-$SLURM_JOB_ID}
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >"$token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token
umask 022

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
on_one_node=(srun --nodes=1 --ntasks=1 --cpus-per-task="$cpus" --overlap)
address=$("${on_one_node[@]}" --nodelist="${nodes[0]}" hostname --ip-address |
  awk '{ for (i = 1; i <= NF; i++) if ($i !~ /:/) { print $i; exit } }') # not the IPv6 one

# A node that failed took the driver with it: the job was started again, and nobody else writes its output folder
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then rm -f "$out/.talkset/owner.json"; fi

steps=()
driver=
stopped=
# shellcheck disable=SC2317 # a trap calls it
cleanup() {
  if [ "${#steps[@]}" -gt 0 ]; then
    kill "${steps[@]}" 2>/dev/null || true
    wait "${steps[@]}" 2>/dev/null || true
  fi
  rm -f "$token"
}
# shellcheck disable=SC2317
stop() {
  stopped=yes
  if [ -n "$driver" ]; then kill -TERM "$driver" 2>/dev/null || true; fi
}
trap cleanup EXIT
trap stop TERM

"${on_one_node[@]}" --nodelist="${nodes[0]}" ray start --head --block --node-ip-address="$address" --port="$port" \
  --num-cpus="$cpus" --temp-dir="$temporary" --include-dashboard=false &
steps+=("$!")
for _ in $(seq 120); do
  if up=$(ray health-check --address "$address:$port" 2>&1); then break; fi
  if ! kill -0 "${steps[0]}" 2>/dev/null; then break; fi
  sleep 1
done
if ! ray health-check --address "$address:$port" >/dev/null 2>&1; then
  echo "Ray did not start on ${nodes[0]}: $up" >&2
  exit 1
fi
for node in "${nodes[@]:1}"; do
  "${on_one_node[@]}" --nodelist="$node" ray start --block --address="$address:$port" --num-cpus="$cpus" &
  steps+=("$!")
done

# The number is kept: workers that come late are used as they come
workers=$((cpus * ${#nodes[@]}))
status=0
if [ -z "$stopped" ]; then
  talkset run "$manifest" --out "$out" --address "$address:$port" --workers "$workers" "$@" &
  driver=$!
  wait "$driver" || status=$?
  if [ -n "$stopped" ] && [ "$status" -gt 128 ]; then # the signal cut the wait short
    status=0
    wait "$driver" || status=$?
  fi
fi
if [ -n "$stopped" ]; then
  echo "stopped before the time limit; the job goes on when it is started again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
