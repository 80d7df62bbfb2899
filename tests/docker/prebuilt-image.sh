#!/usr/bin/env bash
# Makes the image of docker/Dockerfile around a program that is already compiled, because a release
# build inside a container takes half an hour.
#
#   tests/docker/prebuilt-image.sh PROGRAM IMAGE
#
# DOCKER_FLAGS goes to `docker build`, as in the Makefile.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PROGRAM=${1:?which program} IMAGE=${2:?which image name}
CONTEXT=$(mktemp -d)
trap 'rm -rf "$CONTEXT"' EXIT

# shellcheck disable=SC2086 # several flags
docker build ${DOCKER_FLAGS:-} --target base -f docker/Dockerfile -t "$IMAGE-base" .
install -D "$PROGRAM" "$CONTEXT/out/bin/tidemark"
install -D -m 644 vendor/solclient/lib/libsolclient.so.1 "$CONTEXT/out/lib/libsolclient.so.1"
# As the Dockerfile's last stage.
docker build -t "$IMAGE" -f - "$CONTEXT" << DOCKERFILE
FROM $IMAGE-base
COPY out /usr/local
RUN ldconfig
USER 10001
DOCKERFILE
