# syntax=docker/dockerfile:1.18
# Two images of the same layers, so that a node which has one has nearly all of the other:
#   --target gpu    retail-assistant-gpu: training, vLLM and Ray; what RayJobs run
#   --target serve  retail-assistant-serve: the assistant, which starts vLLM beside itself
#
# No CUDA base image: torch and vLLM bring CUDA 13 as wheels, hashed in the lock, and the driver is
# the node's. An nvidia/cuda base would add a second copy of the same libraries.
ARG PYTHON=python:3.11.15-slim-trixie@sha256:90744cff8f32887f075c47d747a173ff333e9e98801667af93c357fa9f5e28ff

FROM ${PYTHON} AS package
WORKDIR /source
COPY README.md pyproject.toml setup.cfg ./
COPY retail_assistant retail_assistant
RUN --network=none pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

FROM ${PYTHON} AS environment
WORKDIR /source
RUN python -m venv /opt/venv
COPY requirements/gpu-image.lock requirements/gpu-image.lock
# The only step that needs a network, and every file of it has its hash in the lock.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/gpu-image.lock
RUN --network=none --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /opt/venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON} AS base
# A compiler: Triton and torch's inductor build launchers for their kernels where they run. wget:
# KubeRay's probes of Ray's containers are made of it.
# Debian keeps one version a release; the base image's digest says which release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ wget \
 && rm -rf /var/lib/apt/lists/*
# The dollar is for the shell that reads the file.
# hadolint ignore=SC2016
RUN groupadd --gid 10001 retail \
 && useradd --uid 10001 --gid 10001 --no-log-init --create-home \
        --home-dir /var/lib/retail-assistant --shell /bin/bash retail \
 # KubeRay may start Ray by a login shell, which forgets PATH.
 && printf 'PATH=%s:$PATH\n' /opt/venv/bin > /etc/profile.d/retail-assistant.sh
COPY --from=environment /opt/venv /opt/venv
# GKE mounts the node's driver at /usr/local/nvidia. Kernel caches follow the home folder.
ENV PATH=/opt/venv/bin:/usr/local/nvidia/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/var/lib/retail-assistant/cache \
    TRITON_HOME=/var/lib/retail-assistant/cache \
    TORCHINDUCTOR_CACHE_DIR=/var/lib/retail-assistant/cache/inductor \
    DAGSTER_DISABLE_TELEMETRY=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    VLLM_NO_USAGE_STATS=1 \
    RETAIL_ENVIRONMENT=cluster \
    RETAIL_WORK_FOLDER=/var/lib/retail-assistant
WORKDIR /var/lib/retail-assistant
USER 10001:10001
# checkov:skip=CKV_DOCKER_2:see below
# checkov:skip=CKV_DOCKER_7:the argument PYTHON has tag and digest
# No HEALTHCHECK in either image: Kubernetes does not read it; KubeRay probes Ray's containers, and
# the assistant's Deployment asks /ready, which is true only once the model has answered.

FROM base AS serve
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="retail-assistant-serve" \
      org.opencontainers.image.description="The assistant: chat page, API, vLLM beside it" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}"
EXPOSE 8000
CMD ["retail-assistant", "serve", "--host", "0.0.0.0", "--port", "8000"]

FROM base AS gpu
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="retail-assistant-gpu" \
      org.opencontainers.image.description="Training, evaluation and Ray on GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}"
# Says how a workload is run by its spec, which is what a Ray job does; in a Ray cluster KubeRay sets
# the command.
CMD ["python", "-m", "retail_assistant.launch.cluster_job", "--help"]
