#!/usr/bin/env bash
# Execute the quick chapters with the newest packages instead of the pinned ones: Colab will have them one day.
set -euo pipefail
python3 -m venv --clear "${VENV:-.venv-newest}"
"${VENV:-.venv-newest}/bin/python" -m pip install --quiet --upgrade ".[book,dev]"
"${VENV:-.venv-newest}/bin/python" -m ci execute --profile quick
