# syntax=docker/dockerfile:1.18
# retail-assistant-code: Dagster's code location, web server, daemon and run workers, and MLflow's
# server. No torch, no vLLM, no CUDA: what is heavy runs in retail-assistant-gpu, by a RayJob.
#
# The digest is the index of all platforms; a newer one is looked up with
# `docker buildx imagetools inspect python:3.11.15-slim-trixie`.
ARG PYTHON=python:3.11.15-slim-trixie@sha256:90744cff8f32887f075c47d747a173ff333e9e98801667af93c357fa9f5e28ff

FROM ${PYTHON} AS package
WORKDIR /source
COPY README.md pyproject.toml setup.cfg ./
COPY retail_assistant retail_assistant
# The base image brings setuptools; nothing is fetched.
RUN --network=none pip wheel --no-cache-dir --no-deps --no-build-isolation --no-index --wheel-dir /wheels .

FROM ${PYTHON} AS environment
WORKDIR /source
RUN python -m venv /opt/venv
COPY requirements/code.lock requirements/code.lock
# The only step that needs a network, and every file of it has its hash in the lock.
RUN --mount=type=cache,target=/root/.cache/pip \
    /opt/venv/bin/pip install --no-deps --require-hashes --requirement requirements/code.lock
# After the packages: a changed line of ours leaves their layer as it is.
RUN --network=none --mount=type=bind,from=package,source=/wheels,target=/wheels \
    /opt/venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${PYTHON}
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="retail-assistant-code" \
      org.opencontainers.image.description="Dagster code location, web server, daemon; MLflow server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}"
# By number: Kubernetes checks runAsNonRoot on a number only. Its home is the one folder it writes to;
# a pod mounts a volume there and may have a read-only root.
RUN groupadd --gid 10001 retail \
 && useradd --uid 10001 --gid 10001 --no-log-init --create-home \
        --home-dir /var/lib/retail-assistant --shell /usr/sbin/nologin retail
COPY --from=environment /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DAGSTER_DISABLE_TELEMETRY=1 \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    RETAIL_ENVIRONMENT=cluster \
    RETAIL_WORK_FOLDER=/var/lib/retail-assistant
WORKDIR /var/lib/retail-assistant
USER 10001:10001
EXPOSE 4000
# checkov:skip=CKV_DOCKER_2:see below
# checkov:skip=CKV_DOCKER_7:the argument PYTHON has tag and digest
# No HEALTHCHECK: Kubernetes does not read it; the Deployments have probes (the gRPC health check
# here, HTTP for the web server).
#
# Other roles of the same image, by a pod's `args`:
#   dagster-webserver --host 0.0.0.0 --port 3000 --workspace workspace.yaml
#   dagster-daemon run --workspace workspace.yaml
#   mlflow server --host 0.0.0.0 --port 5000 --workers 1
CMD ["dagster", "api", "grpc", "--module-name", "retail_assistant.definitions", \
     "--location-name", "retail_assistant", "--host", "0.0.0.0", "--port", "4000"]
