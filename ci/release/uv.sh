#!/usr/bin/env bash
# uv, at the version and with the hashes that the developers' lock file has.
set -euo pipefail
if [ ! -x .venv-uv/bin/uv ]; then
  python3 -m venv --clear .venv-uv
  sed -n '/^uv==/,/[^\\]$/p' ci/requirements/dev.txt > .venv-uv/uv.txt
  .venv-uv/bin/python -m pip install --quiet --require-hashes --requirement .venv-uv/uv.txt
fi
exec .venv-uv/bin/uv "$@"
