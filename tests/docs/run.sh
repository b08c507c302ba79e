#!/usr/bin/env bash
# Tests the documentation: every link, and the commands of the first pages on a local control plane.
# usage: run.sh FOLDER-WITH-dps-dev-dps-operator-AND-dps-simulator [UNITTEST-ARGUMENT…]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROGRAMS=$(realpath "${1:?usage: run.sh FOLDER-WITH-dps-dev-dps-operator-AND-dps-simulator}")
shift
HELM=$("$here/../../dev/build-tool" helm)
CERT_MANAGER=$("$here/../../dev/build-tool" cert-manager)
ASSETS=$("$here/../../dev/build-control-plane")
# Nothing of the user's helm: no plugins, no repositories, no cluster.
HELM_HOME=$(mktemp -d)
trap 'rm -rf "$HELM_HOME"' EXIT
export PROGRAMS HELM ASSETS CERT_MANAGER
export HELM_CONFIG_HOME=$HELM_HOME HELM_DATA_HOME=$HELM_HOME HELM_CACHE_HOME=$HELM_HOME
unset KUBECONFIG
# The control plane and how programs are run are those of the chart's tests.
export PYTHONPATH=$here/../chart

cd "$here"
python3 -B -m unittest "$@"
