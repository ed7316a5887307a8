#!/usr/bin/env bash
# Take in the notebooks and records that machines handed in, check every claim, build the pages and their archive.
# Reads PROFILE and CHAPTERS, those that had to be executed; what was handed in lies in _build/handed-in, a folder a machine.
set -euo pipefail
mkdir -p _build/handed-in
python3 -m ci assemble --profile "${PROFILE:-full}" --chapters "${CHAPTERS:-all}" _build/handed-in
