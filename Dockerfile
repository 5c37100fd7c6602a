# Builds both services once; the last stage takes one of them:
# docker build --build-arg SERVICE=bookapp .
ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-slim-bookworm AS chef
ARG RUST_VERSION
# The image's own toolchain, without the formatter and the lints that rust-toolchain.toml adds.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
# librdkafka is built from source.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make g++ zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
RUN cargo install cargo-chef --version 0.1.78 --locked
WORKDIR /build

FROM chef AS plan
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

# The dependencies are a layer of their own: a change of code compiles only the project's crates.
FROM chef AS build
COPY --from=plan /build/recipe.json recipe.json
RUN cargo chef cook --release --locked --package bookapp --package backend --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --package bookapp --package backend \
    && strip target/release/bookapp target/release/backend

# glibc, zlib and nothing else: no shell, no package manager, not root.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG SERVICE
COPY --from=build /usr/lib/*-linux-gnu/libz.so.1 /usr/lib/
COPY --from=build /build/target/release/${SERVICE} /service
ENV LISTEN_ADDR=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/service", "healthcheck"]
ENTRYPOINT ["/service"]
