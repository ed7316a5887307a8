#!/usr/bin/env bash
# Merge the records of all machines, check every claim, build the pages and their archive.
# Reads PROFILE; what was handed in lies in _build/handed-in, a folder for each machine.
set -uo pipefail
shopt -s nullglob
ended=0
records=(_build/handed-in/*/records.tar.gz)
if [ ${#records[@]} -gt 0 ]; then
  python3 -m ci kd results merge "${records[@]}" || ended=1
fi
python3 -m ci kd results pack --to _build/records.tar.gz || ended=1
mkdir -p _build/handed-in
python3 -m ci assemble --profile "${PROFILE:-full}" _build/handed-in || ended=1
exit "$ended"
