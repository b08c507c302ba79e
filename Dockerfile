# The images of the operator and of the simulator: one static program on a base without a shell.
#
#   docker build --target operator  -t dps-operator:0.1.0  --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
#   docker build --target simulator -t dps-simulator:0.1.0 --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
#
# For a release pin both bases by digest (BUILD_IMAGE=docker.io/library/rust@sha256:…), and take the time from the
# commit: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) with BuildKit's rewrite-timestamp=true, or buildah's --timestamp.
# Then the same sources give the same image. With BuildKit, `--platform linux/amd64,linux/arm64` makes both.
#
# Where no registry can be reached, dev/build-images builds this file with buildah on bases that it makes itself.

# Any image with Rust and a C compiler. Alpine's Rust compiles for musl by itself; elsewhere the target
# *-unknown-linux-musl and musl's compiler wrapper (Debian: musl-tools) must be there.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-alpine
# Nothing but CA certificates and the user 65532. The operator trusts the system's roots, so the file
# /etc/ssl/certs/ca-certificates.crt of this image decides whom it believes to be Azure.
ARG RUNTIME_IMAGE=gcr.io/distroless/static-debian12:nonroot


FROM ${BUILD_IMAGE} AS build
ENV CARGO_HOME=/cargo
# It writes the list of crates into the program, where scanners find it: grype, trivy, cargo audit bin.
ARG CARGO_AUDITABLE=0.7.7
RUN --mount=type=cache,id=dps-operator-registry,target=/cargo/registry \
    --mount=type=cache,id=dps-operator-auditable,target=/tmp/auditable \
    CARGO_TARGET_DIR=/tmp/auditable \
        cargo install cargo-auditable --locked --version "${CARGO_AUDITABLE}" --root /opt/cargo-auditable
ENV PATH=/opt/cargo-auditable/bin:${PATH}
WORKDIR /src
COPY . .
# The programs do not depend on where the crates were unpacked, and their paths tell nobody.
RUN --mount=type=cache,id=dps-operator-registry,target=/cargo/registry \
    --mount=type=cache,id=dps-operator-target,target=/src/target \
    target="$(uname -m)-unknown-linux-musl" && \
    RUSTFLAGS="--remap-path-prefix=/cargo/registry/src=/crates" \
        cargo auditable build --release --locked --target "${target}" -p dps-operator -p dps-simulator --bins && \
    install -D -m 755 "target/${target}/release/dps-operator" "target/${target}/release/dps-simulator" -t /out


FROM ${RUNTIME_IMAGE} AS simulator
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dps-simulator" \
      org.opencontainers.image.description="Simulator of the device API of Azure IoT Hub Device Provisioning Service" \
      org.opencontainers.image.source="https://github.com/dps-operator/dps-operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/dps-simulator /usr/local/bin/dps-simulator
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/dps-simulator"]


FROM ${RUNTIME_IMAGE} AS operator
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dps-operator" \
      org.opencontainers.image.description="Kubernetes operator for Azure IoT Hub Device Provisioning Service" \
      org.opencontainers.image.source="https://github.com/dps-operator/dps-operator" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/dps-operator /usr/local/bin/dps-operator
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/dps-operator"]
CMD ["run"]
