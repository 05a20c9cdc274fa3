#!/usr/bin/env bash
# Makes locally what a machine with a registry would pull, from Debian packages and this machine's Rust toolchain:
#   riser-debian:local      the base of the image
#   riser:local             the image, around target/release/riser (built first if it is not there)
#   riser-prometheus:local  Prometheus from Debian's package
#   riser-rust:local        with --builder only: the base with a C compiler and this machine's toolchain, so that
#                           `docker-compose build` compiles inside
# and writes deploy/.env, which makes compose use them. Grafana has no Debian package and is left out then.
set -euo pipefail
cd "$(dirname "$0")/.."

have() { docker image inspect "$1" >/dev/null 2>&1; }

if ! have riser-debian:local; then
    # The same release as this machine's, whose C library the binary was linked with.
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    command -v debootstrap >/dev/null || { apt-get update && apt-get install -y debootstrap; }
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder" http://deb.debian.org/debian
    rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/* "$folder"/usr/share/{doc,man,locale}
    tar -c -C "$folder" . | docker import - riser-debian:local
fi

if ! have riser-prometheus:local; then
    docker build -t riser-prometheus:local - <<'PROMETHEUS'
FROM riser-debian:local
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && rm -rf /var/lib/apt/lists/* \
    && install -d -o nobody -g nogroup /prometheus
ENTRYPOINT ["prometheus"]
PROMETHEUS
fi

if [ "${1:-}" = --builder ] && ! have riser-rust:local; then
    {
        cat <<'RUST'
FROM riser-debian:local
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . /usr/local/
RUST
    } >target/rust.dockerfile
    docker build -t riser-rust:local -f target/rust.dockerfile "$(rustc --print sysroot)"
fi

[ -x target/release/riser ] || cargo build --locked --release
tar -c -C deploy Dockerfile -C ../target/release riser |
    docker build --target prebuilt --build-arg BASE=riser-debian:local -t riser:local -

cat >deploy/.env <<'ENV'
COMPOSE_FILE=docker-compose.yaml:docker-compose.local.yaml
RISER_IMAGE=riser:local
RISER_BASE=riser-debian:local
RISER_RUST=riser-rust:local
PROMETHEUS_IMAGE=riser-prometheus:local
ENV
