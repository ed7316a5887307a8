#!/usr/bin/env bash
# Use the wheel in dist/ as somebody does who has installed it, far from the checkout: recipes, a run, and the tests of losses and terms.
set -euo pipefail
venv=${VENV:-$PWD/.venv-wheel}
python3 -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet dist/*.whl pytest
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
cp -R tests/conftest.py tests/losses tests/terms "$elsewhere"
export KDLIB_RUNS="$elsewhere/runs" KDLIB_RESULTS="$elsewhere/results"
cd "$elsewhere"
"$venv/bin/kd" list "cifar/*"
"$venv/bin/kd" run cifar/methods/cifar10/20-20/st --seed 0
"$venv/bin/python" -m pytest -q .
