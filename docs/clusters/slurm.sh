#!/bin/bash
# A run on the nodes of one Slurm job: sbatch --nodes 4 --gpus-per-node 4 slurm.sh suite.yaml
# The working directory, the environment and the caches are on a file system that all nodes share. suite.yaml sets
# executor: ray and ray: {address: auto} under runtime:. Submitted again, the job continues where it was stopped.
#SBATCH --job-name=e5-evaluation
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --signal=B:TERM@120
set -euo pipefail

suite=$1
export HF_HUB_OFFLINE=1 # run fetch-data before, where there is a network
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=6379

srun --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --port="$port" --disable-usage-stats --block &
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) --exclude="$head" \
        bash -c "until ray start --address=$head:$port --disable-usage-stats --block; do sleep 2; done" &
fi
for ((waited = 0; waited < 300; waited += 5)); do # until all nodes have joined
    alive=$(ray status --address="$head:$port" 2> /dev/null | grep -c " node_" || true)
    [ "$alive" -ge "$SLURM_JOB_NUM_NODES" ] && break
    sleep 5
done

srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    env RAY_ADDRESS="$head:$port" run-benchmark "$suite" &
run=$!
trap 'kill -TERM "$run"' TERM # two minutes before the end: the run stops cleanly
wait "$run" || wait "$run"
