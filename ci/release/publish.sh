#!/usr/bin/env bash
# Publish what is in dist/ on PyPI, which trusts this workflow in this repository and gives it a token for some minutes:
# https://docs.pypi.org/trusted-publishers/ says how that is set up, once. There is no secret to keep.
set -euo pipefail
ci/release/uv.sh publish --trusted-publishing always dist/*
