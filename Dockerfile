# One file for both services: docker build --build-arg SERVICE=bookapp .
# The dependencies are a layer of their own (cargo-chef), so that a change of code rebuilds code.
ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-slim-bookworm AS chef
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

FROM chef AS build
ARG SERVICE
COPY --from=plan /build/recipe.json recipe.json
COPY rust-toolchain.toml .
RUN cargo chef cook --release --package "${SERVICE}" --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked --package "${SERVICE}" \
    && strip "target/release/${SERVICE}" \
    && cp "target/release/${SERVICE}" /service

# glibc, zlib and nothing else: no shell, no package manager, not root.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/lib/*-linux-gnu/libz.so.1 /usr/lib/
COPY --from=build /service /service
ENV LISTEN_ADDR=0.0.0.0:8000
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s CMD ["/service", "healthcheck"]
ENTRYPOINT ["/service"]
