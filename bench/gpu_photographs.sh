#!/usr/bin/env bash
# The photographs of bench/pack_sample.py at full size, by Base, SIPE and SFC, in pieces of some minutes; needs no network.
#   PARTS    folder with sample.sha256 and all or some of the parts; the others may come in later calls
#   WORK     folder that stays from one call to the next: sample, packages, checkpoints, networks
#   OUT      folder for tables, figures, curves and log
#   PYTHON   interpreter that has torch and torchvision; everything else is taken from the wheels in the sample
# Arguments go to `python -m bench.photographs`. Exit status 75: not finished, call it again.
set -euo pipefail
: "${WORK:?name a folder that stays}" "${OUT:?name a folder for the results}"
PYTHON=${PYTHON:-python3}
cd "$(dirname "$0")/.."
mkdir -p "$WORK/parts" "$OUT"
WORK=$(realpath "$WORK") OUT=$(realpath "$OUT")

if [ ! -e "$WORK/sample/.checked" ]; then
  [ -z "${PARTS:-}" ] || cp "$PARTS"/sample.* "$WORK/parts/"
  [ -e "$WORK/parts/sample.sha256" ] || { echo "PARTS: no sample.sha256 there; see bench/pack_sample.py" >&2; exit 1; }
  while read -r sum part; do
    [ -e "$WORK/parts/$part" ] || { echo "$part is missing: send it, and call again" >&2; exit 75; }
    echo "$sum  $WORK/parts/$part" | sha256sum --check --quiet || { rm "$WORK/parts/$part"; exit 1; }
  done <"$WORK/parts/sample.sha256"
  rm -rf "$WORK/sample"
  mkdir "$WORK/sample"
  cut -c67- "$WORK/parts/sample.sha256" | (cd "$WORK/parts" && xargs cat) | tar -x -C "$WORK/sample"
  (cd "$WORK/sample" && sha256sum --check --quiet files.sha256)
  touch "$WORK/sample/.checked"
  rm -r "$WORK/parts"
fi

if [ -d "$WORK/sample/wheels" ] && [ ! -e "$WORK/sample/.installed" ]; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target "$WORK/site" "$WORK"/sample/wheels/*.whl
  touch "$WORK/sample/.installed"
fi
export PYTHONPATH="$WORK/site${PYTHONPATH:+:$PYTHONPATH}"
exec "$PYTHON" -m bench.photographs --sample "$WORK/sample" --work "$WORK/runs" --out "$OUT" "$@"
