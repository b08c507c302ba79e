#!/usr/bin/env bash
# Tests metrics, alerts and dashboard: a release of the chart with two operators on a local control plane,
# simulators that make trouble, and a Prometheus that scrapes and judges.
# usage: run.sh FOLDER-WITH-dps-dev-AND-dps-operator-AND-dps-simulator [UNITTEST-ARGUMENT…]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PROGRAMS=$(realpath "${1:?usage: run.sh FOLDER-WITH-dps-dev-AND-dps-operator-AND-dps-simulator}")
shift
HELM=$("$here/../../dev/build-tool" helm)
PROMTOOL=$("$here/../../dev/build-tool" promtool)
PROMETHEUS=$("$here/../../dev/build-tool" prometheus)
ASSETS=$("$here/../../dev/build-control-plane")
# Nothing of the user's helm: no plugins, no repositories, no cluster.
HELM_HOME=$(mktemp -d)
trap 'rm -rf "$HELM_HOME"' EXIT
export PROGRAMS HELM PROMTOOL PROMETHEUS ASSETS
export HELM_CONFIG_HOME=$HELM_HOME HELM_DATA_HOME=$HELM_HOME HELM_CACHE_HOME=$HELM_HOME
# What the chart's tests have for a cluster is used here, too.
export PYTHONPATH=$here/../chart
unset KUBECONFIG

cd "$here"
python3 -B -m unittest "$@"
