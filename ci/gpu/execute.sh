#!/usr/bin/env bash
# Execute the chapters of one entry of the matrix, one kernel for each GPU, and pack the records that they made.
# Reads PROFILE, CHAPTERS and ACCELERATOR; the records are packed after a failure too.
set -uo pipefail
python3 -m ci execute --profile "${PROFILE:-full}" --chapters "$CHAPTERS" --accelerator "${ACCELERATOR:-cpu}"
ended=$?
mkdir -p _build
python3 -m ci kd results pack --to _build/records.tar.gz || ended=1
exit "$ended"
