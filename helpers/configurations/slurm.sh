#!/usr/bin/env bash
# Several hosts under SLURM. Words behind the name go to helpers.finetuning:
#   sbatch slurm.sh --output /shared/runs/imdb
# The folder must be the same on all hosts, and so must the environment with this package.
#SBATCH --job-name=finetuning
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --requeue
set -euo pipefail

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export MAIN_HOST="${hosts%%$'\n'*}"                       # the first host
export MAIN_PORT="$((29500 + SLURM_JOB_ID % 1000))"       # another one for each job

# A job that SLURM has put back into the queue goes on from its newest checkpoint.
[ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || set -- "$@" --resume

# One launcher on each host starts a process for each GPU. If one launcher fails, all end.
srun --kill-on-bad-exit=1 bash -c '
  exec accelerate launch --multi_gpu \
    --num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" \
    --num_processes "$((SLURM_NNODES * SLURM_GPUS_ON_NODE))" \
    --main_process_ip "$MAIN_HOST" --main_process_port "$MAIN_PORT" \
    --mixed_precision bf16 --dynamo_backend no \
    -m helpers.finetuning "$@"' finetuning "$@"
