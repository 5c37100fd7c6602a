# Builds both services. The final image contains the one that SERVICE names:
# docker build --build-arg SERVICE=bookapp .
# The target `uservices` is the image of examples/uservices.
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-slim-bookworm AS base
ARG RUST_VERSION
# Uses the toolchain of the image and skips the components of rust-toolchain.toml (rustfmt, clippy).
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION} CARGO_TARGET_DIR=/target
# Build dependencies of librdkafka and of its OpenSSL, which are compiled from source.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make g++ perl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build

# The manifests, and an empty source file for each crate: what determines the dependencies.
FROM base AS manifests
COPY . .
RUN find . -type f ! -name Cargo.toml ! -name Cargo.lock ! -name lib.rs ! -name main.rs -delete \
    && find . -name '*.rs' -exec truncate --size 0 {} +

# Dependencies are a separate layer, so a code change recompiles only the crates of this project.
FROM base AS build
COPY --from=manifests /build .
RUN cargo build --release --locked --lib --package bookapp --package backend --features bookapp/kafka-tls,backend/kafka-tls,bookapp/postgres-tls,backend/postgres-tls
COPY . .
# cargo compares times: the sources must be newer than what was built from the empty files.
RUN find . -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package bookapp --package backend --features bookapp/kafka-tls,backend/kafka-tls,bookapp/postgres-tls,backend/postgres-tls \
    && strip /target/release/bookapp /target/release/backend

FROM build AS uservices-build
RUN cargo build --release --locked --package uservices && strip /target/release/uservices

FROM gcr.io/distroless/cc-debian12:nonroot AS uservices
COPY --from=uservices-build /target/release/uservices /uservices
ENTRYPOINT ["/uservices"]

# Runtime image with glibc only: no shell, no package manager, not root.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG SERVICE
COPY --from=build /target/release/${SERVICE} /service
ENV LISTEN_ADDR=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/service", "healthcheck"]
ENTRYPOINT ["/service"]
