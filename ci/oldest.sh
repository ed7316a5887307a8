#!/usr/bin/env bash
# Run the tests of what trains with the oldest packages that pyproject.toml allows, torch first.
set -euo pipefail
venv=${VENV:-.venv-oldest}
python3 -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet uv
"$venv/bin/python" -m uv pip compile --quiet --resolution lowest-direct pyproject.toml --output-file "$venv/oldest.txt"
"$venv/bin/python" -m pip install --quiet --requirement "$venv/oldest.txt" pytest pytest-timeout pytest-xdist
"$venv/bin/python" -m pytest -n auto tests/losses tests/models tests/terms tests/training tests/data
