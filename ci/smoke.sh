#!/usr/bin/env bash
# What a reader does first, on a system that the other jobs do not have: a chapter, the pages, a run and its table.
set -euo pipefail
export PYTHONUTF8=1  # Windows has all letters in its terminal, but not in a log
python -m ci book --chapters 02
python -m ci kd run cifar/methods/cifar10/20-20/st --seed 0
python -m ci kd table "cifar/methods/cifar10/20-20/*"
