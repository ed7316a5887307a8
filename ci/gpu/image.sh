#!/usr/bin/env bash
# Build and push the image that the jobs run in, unless there is one of these packages, and write its name.
# Reads REPOSITORY (owner/name), ACTOR and TOKEN, which may push; writes to GITHUB_OUTPUT, or to the terminal.
set -euo pipefail
packages=$(cat ci/gpu/Dockerfile ci/requirements/book.txt pyproject.toml | sha256sum)
image="ghcr.io/${REPOSITORY,,}/gpu:${packages:0:16}"
echo "$TOKEN" | docker login ghcr.io --username "$ACTOR" --password-stdin
if ! docker manifest inspect "$image" > /dev/null 2>&1; then
  docker build --file ci/gpu/Dockerfile --tag "$image" .
  # This machine has no GPU; that torch sees one is checked where there is one, before a chapter is executed.
  docker run --rm "$image" python3 -c 'import sys, torch; sys.exit(torch.version.cuda is None and "torch is built without CUDA")'
  docker push "$image"
fi
echo "image=$image" | tee -a "${GITHUB_OUTPUT:-/dev/null}"
