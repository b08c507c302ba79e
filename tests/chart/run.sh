#!/usr/bin/env bash
# Tests the Helm chart: with helm and promtool alone, and installed on a local control plane.
# usage: run.sh FOLDER-WITH-dps-dev-AND-dps-simulator [UNITTEST-ARGUMENT…]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROGRAMS=$(realpath "${1:?usage: run.sh FOLDER-WITH-dps-dev-AND-dps-simulator}")
shift
HELM=$("$here/../../dev/build-tool" helm)
PROMTOOL=$("$here/../../dev/build-tool" promtool)
ASSETS=$("$here/../../dev/build-control-plane")
# Nothing of the user's helm: no plugins, no repositories, no cluster.
HELM_HOME=$(mktemp -d)
trap 'rm -rf "$HELM_HOME"' EXIT
export PROGRAMS HELM PROMTOOL ASSETS
export HELM_CONFIG_HOME=$HELM_HOME HELM_DATA_HOME=$HELM_HOME HELM_CACHE_HOME=$HELM_HOME
unset KUBECONFIG

cd "$here"
python3 -B -m unittest "$@"
