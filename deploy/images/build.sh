#!/bin/sh
# Build the three images and push them, tagged with the git commit:
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
    # build NAME DOCKERFILE [TARGET]
    docker buildx build --file "deploy/images/$2" ${3:+--target "$3"} --platform linux/amd64 \
        --build-arg "COMMIT=$commit" --tag "$registry/$1:$commit" --push .
}

build retail-assistant-code code.Dockerfile
build retail-assistant-gpu gpu.Dockerfile gpu
build retail-assistant-serve gpu.Dockerfile serve
echo "pushed $registry/retail-assistant-{code,gpu,serve}:$commit"
