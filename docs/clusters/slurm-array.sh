#!/bin/bash
# A run as a job array of Slurm, a GPU for each part: sbatch --array=1-8 slurm-array.sh suite.yaml
# The working directory, the environment and the caches are on a file system that all nodes share. Submitted again, with as
# many parts or another number, the array continues where it was stopped. Another number needs the first array to have ended.
#SBATCH --job-name=e5-evaluation
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -euo pipefail

export HF_HUB_OFFLINE=1 # run fetch-data before, where there is a network

run-benchmark "$1" --part auto &
run=$!
trap 'kill -TERM "$run"' TERM # two minutes before the end: the part stops cleanly
wait "$run" || wait "$run"
