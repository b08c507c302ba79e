#!/usr/bin/env bash
# Lets Microsoft's device client for Java register at the simulator; without a JDK or Maven it says so and ends.
# usage: run.sh [path of a built dps-simulator; target/debug/dps-simulator unless given]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath -m "${1:-$here/../../../target/debug/dps-simulator}")
for program in javac mvn; do
    if ! command -v "$program" > /dev/null; then
        echo "Microsoft's Java client: skipped, there is no $program"
        exit 0
    fi
done

cd "$here"
pom=$(sha256sum < pom.xml)
if [[ ! -f lib/.pom || $(< lib/.pom) != "$pom" ]]; then
    rm -rf lib
    # It colours even what it does not say.
    if ! said=$(mvn -q -B -f pom.xml dependency:copy-dependencies -DoutputDirectory=lib); then
        printf '%s\n' "$said" >&2
        exit 1
    fi
    printf '%s\n' "$pom" > lib/.pom
fi

# A JVM trusts what is in its own store. The password hides nothing: Java wants one.
# shellcheck disable=SC2016 # the inner shell has the variables
../with-simulator.sh "$binary" bash -c '
    trust=$DPS_PKI/trust.p12
    keytool -importcert -noprompt -alias dps -file "$DPS_CA_FILE" -keystore "$trust" -storetype PKCS12 \
        -storepass changeit 2> /dev/null
    exec java -Djavax.net.ssl.trustStore="$trust" -Djavax.net.ssl.trustStorePassword=changeit -cp "lib/*" Proof.java
'
