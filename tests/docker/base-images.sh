#!/usr/bin/env bash
# Makes stand-ins for the base images that docker/Dockerfile and docker/compose.yaml name, from
# Debian packages and this machine's Rust toolchain, for machines that reach no image registry.
# They carry the official names, so the files under docker/ are tested unchanged. An image that is
# already there, official or not, is left alone; `docker rmi` it to have it made again.
#
#   tests/docker/base-images.sh            all three
#   tests/docker/base-images.sh postgres   debian and one more (rust, postgres)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
DEBIAN=debian:bookworm-slim RUST=rust:1.95-bookworm POSTGRES=postgres:15
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

fail() {
    echo "base-images: $*" >&2
    exit 1
}

have() {
    docker image inspect "$1" > "$WORK/inspect" 2>&1 && echo "$1: already there"
}

# Settings without which apt works on this host but not in a container (proxies, clock checks).
host_apt_settings() {
    apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date) ' || true
}

make_debian() {
    have $DEBIAN && return
    [ "$(id -u)" = 0 ] || fail "debootstrap needs root: run this as root"
    command -v debootstrap > "$WORK/path" || apt-get install -y -q debootstrap
    local mirror root=$WORK/debian
    mirror=$(apt-get indextargets --format '$(REPO_URI)' \
        'Created-By: Packages' 'Codename: bookworm' 'Component: main' | head -n 1)
    echo "$DEBIAN: debootstrap"
    debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} > "$WORK/log" || {
        tail "$WORK/log" >&2
        fail "debootstrap did not finish"
    }
    cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/" && : > "$root/etc/apt/sources.list"
    host_apt_settings > "$root/etc/apt/apt.conf.d/99host"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
    tar -C "$root" -c . | docker import --change 'CMD ["bash"]' - $DEBIAN
}

# The host's certificates and toolchain, where the official image has its own.
make_rust() {
    have $RUST && return
    local sysroot context=$WORK/rust
    sysroot=$(rustc --print sysroot)
    echo "$RUST: packages and $(rustc --version)"
    mkdir -p "$context"
    tar -C "$sysroot" --exclude=./share -cf "$context/toolchain.tar" .
    cp /etc/ssl/certs/ca-certificates.crt "$context/"
    cp rust.Dockerfile "$context/Dockerfile"
    docker build -q --network host -t $RUST "$context"
}

make_postgres() {
    have $POSTGRES && return
    echo "$POSTGRES: the distribution's postgresql-15"
    local context=$WORK/postgres
    mkdir -p "$context"
    cp postgres.Dockerfile "$context/Dockerfile"
    cp postgres-entrypoint.sh "$context/"
    docker build -q --network host -t $POSTGRES "$context"
}

docker version > "$WORK/version" 2>&1 || fail "no Docker daemon answers"
make_debian
[ $# -gt 0 ] || set -- rust postgres
for image in "$@"; do
    "make_$image"
done
