# syntax=docker/dockerfile:1.18
# retail-assistant-cpu: in the place of both GPU images where there is no GPU (the overlay `cpu`).
ARG PYTHON=python:3.11.15-slim-trixie@sha256:90744cff8f32887f075c47d747a173ff333e9e98801667af93c357fa9f5e28ff

FROM ${PYTHON} AS package
WORKDIR /source
COPY README.md pyproject.toml setup.cfg ./
COPY retail_assistant retail_assistant
RUN --network=none pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

FROM ${PYTHON} AS environment
WORKDIR /source
RUN python -m venv /opt/venv
COPY requirements/cpu-image.lock requirements/cpu-image.lock
# Every file has its hash in the lock. Only this step and the next need a network.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/cpu-image.lock
# torch's hash depends on the build, and its CPU build is on another index than the rest: both are said
# when the image is built.
ARG TORCH_INDEX
ARG TORCH_SHA256
RUN --mount=type=cache,target=/root/.cache/pip \
    echo "torch==2.13.0 --hash=sha256:${TORCH_SHA256:?the hash of the CPU wheel}" > torch.lock \
 && /opt/venv/bin/pip install --no-deps --require-hashes --requirement torch.lock \
        --index-url "${TORCH_INDEX:?an index with the CPU build of torch}"
RUN --network=none --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /opt/venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="retail-assistant-cpu" \
      org.opencontainers.image.description="Training, evaluation, Ray and the assistant without GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}"
# A compiler: torch's inductor builds its kernels where they run. libnuma: vLLM's CPU build binds its
# threads by it. wget: KubeRay's probes of Ray's containers are made of it.
# Debian keeps one version a release; the base image's digest says which release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends g++ libnuma1 wget \
 && rm -rf /var/lib/apt/lists/*
# The dollar is for the shell that reads the file.
# hadolint ignore=SC2016
RUN groupadd --gid 10001 retail \
 && useradd --uid 10001 --gid 10001 --no-log-init --create-home \
        --home-dir /var/lib/retail-assistant --shell /bin/bash retail \
 # KubeRay may start Ray by a login shell, which forgets PATH.
 && printf 'PATH=%s:$PATH\n' /opt/venv/bin > /etc/profile.d/retail-assistant.sh
COPY --from=environment /opt/venv /opt/venv
# Kernel caches follow the home folder.
ENV PATH=/opt/venv/bin:$PATH \
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
# No HEALTHCHECK: Kubernetes does not read it.
# Says how a workload is run by its spec; the assistant's pods have another command.
CMD ["python", "-m", "retail_assistant.launch.cluster_job", "--help"]
