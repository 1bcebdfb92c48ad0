#!/bin/bash
# Trains a recipe on several machines; goes on by itself after the time limit or a preemption.
#   sbatch --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 configs/slurm.sh --config configs/lora.yaml
#SBATCH --job-name=tuner
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
# One task is one process on one GPU. SIGTERM comes 180 seconds before the time limit: enough to finish a
# step and write last.ckpt.
set -uo pipefail

name="$SLURM_JOB_NAME-$SLURM_JOB_ID" # the same after a requeue
resume=()
if compgen -G "logs/$name/version_*/checkpoints/last.ckpt" >/dev/null; then
    resume=(--ckpt_path last)
fi

srun --kill-on-bad-exit=1 .venv/bin/python train.py fit "$@" --name "$name" \
    --trainer.num_nodes "$SLURM_JOB_NUM_NODES" --trainer.devices "$SLURM_NTASKS_PER_NODE" "${resume[@]}"
code=$?
if ((code == 143)); then # stopped by SIGTERM, with last.ckpt written
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
