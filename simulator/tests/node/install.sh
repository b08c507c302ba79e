#!/usr/bin/env bash
# Installs the packages that the lock file names, unless they are there.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
# Tests run side by side.
exec 9> .install.lock
flock 9
lock=$(sha256sum < package-lock.json)
if [[ ! -f node_modules/.lock || $(< node_modules/.lock) != "$lock" ]]; then
    npm ci --no-audit --no-fund
    printf '%s\n' "$lock" > node_modules/.lock
fi
