#!/usr/bin/env bash
# Write the matrix of gpu.yml: chapters that a change touches, or, without a change, those that are not current.
# Reads PROFILE, CHAPTERS, MACHINES and BASE (a commit, or empty); writes to GITHUB_OUTPUT, or to the terminal.
set -euo pipefail
since=()
if [ -n "${BASE:-}" ]; then since=(--since "$BASE"); fi
matrix=$(python3 -m ci plan --profile "${PROFILE:-full}" --chapters "${CHAPTERS:-all}" \
  --machines "${MACHINES:-4}" "${since[@]}" | tail -n 1)
echo "matrix=$matrix" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
