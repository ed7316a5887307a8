#!/usr/bin/env bash
# Build what a release publishes, into dist/: the sources as an archive, and a wheel that is made from the archive.
# Reads GITHUB_REF_NAME, the tag, which has to be that of the version in pyproject.toml.
set -euo pipefail
version=$(python3 -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])')
if [ "$GITHUB_REF_NAME" != "v$version" ]; then
  echo "The tag $GITHUB_REF_NAME is not that of version $version in pyproject.toml: name it v$version." >&2
  exit 1
fi
if ! grep -q "^## \[\?$version\b" CHANGELOG.md; then
  echo "CHANGELOG.md has no section on $version: make one of what is under \"Unreleased\"." >&2
  exit 1
fi
ci/release/uv.sh build --out-dir dist
