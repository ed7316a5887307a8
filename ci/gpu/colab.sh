#!/usr/bin/env bash
# Execute the chapters in Colab's own image, as a reader does there: with what it has, and the set-up cell's packages.
# https://research.google.com/colaboratory/local-runtimes.html names the image. It is large: a hosted machine makes room first.
set -uo pipefail
if [ -z "${INSIDE:-}" ]; then
  if [ -n "${GITHUB_ACTIONS:-}" ]; then sudo rm -rf /usr/share/dotnet /usr/local/lib/android /opt/ghc /opt/hostedtoolcache; fi
  docker run --rm --env INSIDE=1 --volume "$PWD:/content/course" --workdir /content/course --entrypoint bash \
    us-docker.pkg.dev/colab-images/public/runtime ci/gpu/colab.sh
  exit
fi
python3 -m pip install --quiet ".[notebook]" || exit 1
ended=0
cd book
for chapter in [0-9]*.ipynb; do
  echo "$chapter"
  python3 -m jupyter nbconvert --to notebook --execute --allow-errors --ExecutePreprocessor.timeout=900 \
    --output-dir ../_build/colab "$chapter" || ended=1
  if grep -q '"output_type": "error"' "../_build/colab/$chapter"; then
    echo "error: $chapter fails on Colab; the notebook as far as it got is in the artefact" >&2
    ended=1
  fi
done
exit "$ended"
