#!/usr/bin/env bash
# Makes the images of docker/Dockerfile around programs that are already compiled, because a release
# build inside a container takes half an hour: IMAGE with PROGRAM, and IMAGE-dev with tidemark-dev, which
# is beside PROGRAM, as well.
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
# As the Dockerfile's last stages.
docker build -t "$IMAGE" -f - "$CONTEXT" << DOCKERFILE
FROM $IMAGE-base
COPY out /usr/local
RUN ldconfig
USER 10001
DOCKERFILE
install -D "$(dirname "$PROGRAM")/tidemark-dev" "$CONTEXT/out-dev/bin/tidemark-dev"
docker build -t "$IMAGE-dev" -f - "$CONTEXT" << DOCKERFILE
FROM $IMAGE
COPY out-dev /usr/local
DOCKERFILE
