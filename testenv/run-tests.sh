#!/usr/bin/env bash
# Runs every Go test. With SEAWALL_ENVOY=off the scenarios of the real Envoy
# are left out, and the last line says how many they were.
set -uo pipefail
cd "$(dirname "$0")/.."
export SEAWALL_NOT_RUN
SEAWALL_NOT_RUN=$(mktemp)
trap 'rm -f "$SEAWALL_NOT_RUN"' EXIT

go test -count=1 -timeout=30m ./...
status=$?
if [ "${SEAWALL_ENVOY:-}" = off ]; then
  echo "SEAWALL_ENVOY=off: $(wc -l <"$SEAWALL_NOT_RUN") scenarios of the real Envoy were not run"
elif [ "${SEAWALL_PROMETHEUS:-}" = off ]; then
  echo "SEAWALL_PROMETHEUS=off: $(wc -l <"$SEAWALL_NOT_RUN") scenarios of the real Prometheus and Alertmanager were not run"
fi
exit $status
