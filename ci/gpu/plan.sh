#!/usr/bin/env bash
# Write the plan of gpu.yml: chapters that a change touches, or, without a change, those that are not current.
# Reads PROFILE, CHAPTERS, MACHINES, GPU_HOURS and BASE (a commit, or empty); writes to GITHUB_OUTPUT, or to the terminal.
set -euo pipefail
since=()
if [ -n "${BASE:-}" ]; then since=(--since "$BASE"); fi
plan=$(python3 -m ci plan --profile "${PROFILE:-full}" --chapters "${CHAPTERS:-all}" \
  --machines "${MACHINES:-4}" --gpu-hours "${GPU_HOURS:-inf}" "${since[@]}" | tail -n 1)
echo "plan=$plan" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
