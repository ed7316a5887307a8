#!/usr/bin/env bash
# Start the failed jobs of a run again if one of its machines vanished, which is one that could not hand in what it had.
# Reads RUN (its number), REPOSITORY and GH_TOKEN.
set -euo pipefail
vanished=$(gh api "repos/$REPOSITORY/actions/runs/$RUN/jobs?filter=latest&per_page=100" | python3 -m ci.vanished)
if [ -z "$vanished" ]; then
  echo "No machine vanished: what failed would fail again."
else
  echo "Vanished: $vanished"
  gh run rerun "$RUN" --repo "$REPOSITORY" --failed
fi
