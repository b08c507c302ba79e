#!/usr/bin/env bash
# Lets Microsoft's device client for Node.js register at the simulator.
# usage: run.sh [path of a built dps-simulator; target/debug/dps-simulator unless given]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath -m "${1:-$here/../../../target/debug/dps-simulator}")
if [[ ! -x $binary ]]; then
    echo "$binary is not there; build it with: cargo build -p dps-simulator" >&2
    exit 2
fi

cd "$here"
./install.sh

"$here/../with-simulator.sh" "$binary" node --test
