#!/usr/bin/env bash
# Execute the chapters of one entry of the plan, one kernel for each GPU; new records are packed into _build/records.zip.
# Reads PROFILE, CHAPTERS, ACCELERATOR and VOLUME: a folder that outlives the checkout, for data sets and for runs.
set -euo pipefail
if [ -n "${VOLUME:-}" ]; then
  # A run is taken up only by the code that began it, which kdlib sees to, and by the same packages.
  packages=$(sha256sum ci/requirements/book.txt)
  export KDLIB_DATA="$VOLUME/data" KDLIB_RUNS="$VOLUME/runs/${packages:0:12}"
fi
python3 -m ci execute --profile "${PROFILE:-full}" --chapters "$CHAPTERS" --accelerator "${ACCELERATOR:-cpu}"
