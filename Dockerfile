# The image of metronome: `docker build -t metronome .`
# Needs BuildKit, Docker's default builder, for the caches.

FROM rust:1.95-bookworm AS builder
# For the bindings of RocksDB.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libclang-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin metronome \
    && strip --strip-debug -o /metronome target/release/metronome
RUN install -d -m 0750 /data

FROM debian:12-slim
LABEL org.opencontainers.image.title="metronome" \
    org.opencontainers.image.description="A tracing store in one process: OTLP in, Tempo's blocks on disk, Tempo's query API out" \
    org.opencontainers.image.licenses="Apache-2.0"
COPY --from=builder /metronome /usr/local/bin/metronome
COPY tempo.toml /etc/metronome/tempo.toml
COPY LICENSE /usr/share/doc/metronome/LICENSE
# A volume takes over the owner of the directory that it is mounted on.
COPY --from=builder --chown=10001:10001 /data /data

USER 10001:10001
# Where tempo.toml is found without --config.
WORKDIR /etc/metronome
VOLUME /data
# Spans by OTLP/gRPC and OTLP/HTTP; queries by HTTP and gRPC.
EXPOSE 4317 4318 3200 9095
HEALTHCHECK --interval=10s --timeout=6s --start-period=120s --retries=3 \
    CMD ["/usr/local/bin/metronome", "--health"]
ENTRYPOINT ["/usr/local/bin/metronome"]
CMD ["--set", "storage.path=/data"]
