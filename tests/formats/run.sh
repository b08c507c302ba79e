#!/usr/bin/env bash
# Lets programs that are not ours read the Secrets that control-plane tests have kept for them.
# usage: run.sh [formats.json; target/tmp/formats.json unless given]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
FORMATS=$(realpath -m "${1:-$here/../../target/tmp/formats.json}")
CERTIFICATES=$(dirname "$FORMATS")/certificates.json
export FORMATS CERTIFICATES
for file in "$FORMATS" "$CERTIFICATES"; do
    if [[ ! -f $file ]]; then
        echo "$file is not there; make it with: cargo test --test operator -- formats" >&2
        exit 2
    fi
done

cd "$here"
lock=$(sha256sum < package-lock.json)
if [[ ! -f node_modules/.lock || $(< node_modules/.lock) != "$lock" ]]; then
    npm ci --no-audit --no-fund
    printf '%s\n' "$lock" > node_modules/.lock
fi

venv=$(../../dev/build-venv formats requirements.txt)

status=0
node --test || status=$?
# Other people's code has warnings of its own.
"$venv/bin/python" -B -W ignore -m unittest || status=$?
exit "$status"
