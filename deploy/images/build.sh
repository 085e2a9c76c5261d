#!/bin/sh
# Build the images and push them, tagged with the git commit:
#   sh deploy/images/build.sh REGION-docker.pkg.dev/PROJECT/retail-assistant
# Needs Docker with BuildKit. Without one: gcloud builds submit --config deploy/images/cloudbuild.yaml
set -eu
registry=${1:?"which registry? make images REGISTRY=REGION-docker.pkg.dev/PROJECT/retail-assistant"}
cd "$(dirname "$0")/../.."
if [ -n "$(git status --porcelain)" ]; then
    echo "images: there are changes that are in no commit, which the tag could not name; commit first" >&2
    exit 2
fi
commit=$(git rev-parse HEAD)

build() {
    # build NAME DOCKERFILE [TARGET [ARGUMENT…]]
    name=$1 file=$2 target=${3:-}
    shift $(($# < 3 ? $# : 3))
    docker buildx build --file "deploy/images/$file" ${target:+--target "$target"} "$@" \
        --platform linux/amd64 --build-arg "COMMIT=$commit" --tag "$registry/$name:$commit" --push .
}

build retail-assistant-code code.Dockerfile
build retail-assistant-gpu gpu.Dockerfile gpu
build retail-assistant-serve gpu.Dockerfile serve
# For the overlay `cpu`: TORCH_INDEX, an index with the CPU build of torch, and that wheel's TORCH_SHA256.
if [ -n "${TORCH_INDEX:-}" ]; then
    build retail-assistant-cpu cpu.Dockerfile "" \
        --build-arg "TORCH_INDEX=$TORCH_INDEX" --build-arg "TORCH_SHA256=${TORCH_SHA256:?}"
fi
echo "pushed to $registry, tag $commit"
