#!/usr/bin/env bash
# Runs a command beside a simulator, whose keys, certificates, ports and CA it finds in variables (DPS_...).
# usage: with-simulator.sh BINARY COMMAND [ARGUMENT…]
set -euo pipefail

binary=$1
shift

work=$(mktemp -d)
pid=
finish() {
    if [[ -n $pid ]]; then
        kill "$pid" 2> /dev/null || true
        wait "$pid" 2> /dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

key() { head -c 64 /dev/urandom | base64 -w 0; }
DPS_FLEET_KEY=$(key) DPS_FLEET_SECONDARY_KEY=$(key) DPS_SITE_KEY=$(key) DPS_CLOSED_KEY=$(key)
export DPS_FLEET_KEY DPS_FLEET_SECONDARY_KEY DPS_SITE_KEY DPS_CLOSED_KEY

# A root, an intermediate CA, a device under it, and one by itself. Each is valid for a day.
openssl_quietly() { openssl "$@" 2> "$work/openssl.log" || { cat "$work/openssl.log" >&2; return 1; }; }
certificate() {  # NAME ISSUER CA:TRUE|CA:FALSE
    local issuer=(-key "$work/$2.key")
    openssl_quietly genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/$1.key"
    if [[ $1 != "$2" ]]; then
        issuer=(-key "$work/$1.key" -CA "$work/$2.pem" -CAkey "$work/$2.key")
    fi
    openssl_quietly req -x509 -new "${issuer[@]}" -days 1 -subj "/CN=$1" -addext "basicConstraints=critical,$3" \
        -out "$work/$1.pem"
}
certificate root root CA:TRUE
certificate intermediate root CA:TRUE
certificate device-7 intermediate CA:FALSE
certificate device-8 device-8 CA:FALSE
export DPS_PKI=$work

cat > "$work/simulator.yaml" << YAML
tls:
  directory: $work/tls
thinkTime: 0
retryAfter: 1s
idScopes:
  - idScope: 0ne00000001
    hubs: [hub-a.azure-devices.net, hub-b.azure-devices.net]
    enrollmentGroups:
      - id: fleet
        primaryKey: $DPS_FLEET_KEY
        secondaryKey: $DPS_FLEET_SECONDARY_KEY
        allocationPolicy: static
        hub: hub-a.azure-devices.net
      - id: by-site
        primaryKey: $DPS_SITE_KEY
        secondaryKey: $(key)
        allocationPolicy: custom
        webhook:
          field: site
          rules:
            - value: north
              hub: hub-b.azure-devices.net
              payload: { region: north, interval: 30 }
      - id: closed
        primaryKey: $DPS_CLOSED_KEY
        secondaryKey: $(key)
        enabled: false
      - id: lorries
        x509: { primary: { file: $work/root.pem } }
        allocationPolicy: static
        hub: hub-a.azure-devices.net
    individualEnrollments:
      - registrationId: device-8
        deviceId: device-eight
        x509: { primary: { file: $work/device-8.pem } }
    certificateAuthorities:
      - name: root
        certificate: { file: $work/root.pem }
YAML

# The program says one line when it is ready; reading it from a pipe waits exactly so long.
mkfifo "$work/said"
"$binary" --config "$work/simulator.yaml" --listen 127.0.0.1:0 --admin 127.0.0.1:0 \
    --ready-file "$work/ready.json" > "$work/said" &
pid=$!
if ! read -r -t 30 < "$work/said"; then
    echo "the simulator did not become ready" >&2
    exit 1
fi

field() { node -p "JSON.parse(fs.readFileSync('$work/ready.json', 'utf8')).$1"; }
address=$(field address)
DPS_PORT=${address##*:} DPS_ADMIN=$(field adminAddress) DPS_CA_FILE=$(field caFile)
export DPS_PORT DPS_ADMIN DPS_CA_FILE

"$@"
