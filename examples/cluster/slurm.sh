#!/usr/bin/env bash
# A training on several machines under SLURM, resumed until it is done: sbatch examples/cluster/slurm.sh
#
# Change RUN, the settings and the numbers of nodes and tasks. RUN is a folder that the first node sees; the others need
# only the program, at the same path. train.shards is a power of two of at least the number of tasks, and stays.
#SBATCH --job-name=dapo
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
# Two minutes before the time is over, the ranks get SIGTERM: they finish the step and save.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -uo pipefail
RUN=${RUN:-runs/mine}
SETTINGS=(dapo train.shards=8 model.path=models/mine data.train=problems.jsonl dist.timeout_s=300)
RESTARTS=${RESTARTS:-20}

for ((attempt = 0; attempt <= RESTARTS; attempt++)); do
  if [ -e "$RUN/config.resolved.toml" ]; then
    arguments=(--resume "$RUN")
  else
    arguments=("${SETTINGS[@]}" --out "$RUN")
  fi
  code=0
  srun --mpi=pmix --cpu-bind=none --kill-on-bad-exit=1 dapo train "${arguments[@]}" || code=$?
  case $code in
  0) exit 0 ;;
  # A rank or its machine was lost.
  75 | 137) echo "attempt $attempt ended with $code: resuming" >&2 ;;
  # The time is over: the job goes back to the queue, and continues from what was saved.
  143) scontrol requeue "$SLURM_JOB_ID" && exit 0 || exit 143 ;;
  *) exit "$code" ;;
  esac
  sleep 5
done
echo "$RESTARTS restarts were not enough" >&2
exit 75
