"""The Ray launcher: a workload as a Ray job on a cluster that sees the same storage folder.

Jobs are submitted through Ray's own client. dagster-ray's `PipesRayJobClient` (0.4.8) was the
first choice; it gives up a running job at the first failed poll, does not wait for the end of a
job that it stops, and does not find one again that a killed Dagster run has left. Its Kubernetes
sibling is used where there is no such client (`kuberay.py`).
"""

import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from retail_assistant.launch.command import REASON_NAME, write_spec
from retail_assistant.launch.processes import LAUNCH_ID, SECONDS_TO_END
from retail_assistant.launch.ray_cluster import RayClusterError
from retail_assistant.launch.ray_head import JobServer, job_server
from retail_assistant.launch.spec import (
    PREEMPTED_EXIT_CODE,
    SPEC_NAME,
    LaunchError,
    LaunchSpec,
    Manifest,
    Preempted,
    read_manifest,
)
from retail_assistant.launch.workload import LAUNCHER_PID, PREEMPTED_MARK
from retail_assistant.storage import written
from retail_assistant.storage.bucket import bucket_of, fetch
from retail_assistant.storage.lease import wait_for_others
from retail_assistant.telemetry.redaction import SECRET_WORDS
from retail_assistant.telemetry.tracing import TRACEPARENT

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_WITHOUT_ANSWER = 300.0
"""How long the head may be away: it restarts, or a network drops; the job goes on."""

SECONDS_TO_STOP = SECONDS_TO_END + 30
FORWARDED = ("RETAIL_", "OTEL_", "GOOGLE_CLOUD_PROJECT", TRACEPARENT)
"""How the names begin of what a job gets: settings, and how its work is told of."""

OF_THIS_MACHINE = frozenset({LAUNCHER_PID, LAUNCH_ID})
IDENTITY = "retail_assistant/fingerprint"
# Ray's own words for a job whose node is gone.
NODE_LOST = frozenset({"JOB_SUPERVISOR_ACTOR_DIED", "JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE"})
Say = Callable[[str], object]


def forwarded_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The project's settings as a job gets them, and the trace it is in; without secrets.

    Anyone can read those in a job's description; the cluster's own environment has to give them.
    """
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(FORWARDED)
        and name not in OF_THIS_MACHINE
        and not _is_secret(name, value)
    }


def storage_environment(spec: LaunchSpec) -> dict[str, str]:
    """The settings by which a job finds the storage folder at the same path."""
    bucket = bucket_of(spec.root)
    if bucket is None:
        return {"RETAIL_STORAGE_URI": str(spec.root)}
    return {"RETAIL_STORAGE_URI": bucket.uri, "RETAIL_WORK_FOLDER": str(bucket.work_folder)}


def _is_secret(name: str, value: str) -> bool:
    return any(word in name for word in SECRET_WORDS) or urlsplit(value).password is not None


def entrypoint(spec: LaunchSpec) -> str:
    """The shell command of the job: this Python where the cluster has it, else its own."""
    own = shlex.quote(sys.executable)
    arguments = shlex.join(
        ["-m", "retail_assistant.launch.cluster_job", "--spec", str(spec.folder / SPEC_NAME)]
    )
    return f'exec "$([ -x {own} ] && echo {own} || echo python)" {arguments}'


def submission(spec: LaunchSpec, environment: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `JobSubmissionClient.submit_job`.

    A job of one node reserves its resources for its entry point. Of several nodes the entry point
    only waits; Ray Train reserves for the nodes.
    """
    needs = spec.resources
    wanted: dict[str, Any] = {}
    if needs.nodes == 1 and (spec.accelerate is not None or needs.gpus or needs.cpus):
        wanted["entrypoint_num_cpus"] = needs.cpus or needs.processes
        wanted["entrypoint_memory"] = int(needs.memory_gib * 2**30)
        if needs.gpus:
            wanted["entrypoint_num_gpus"] = needs.gpus
    variables = {
        **forwarded_environment(os.environ),
        **storage_environment(spec),
        # Read by Ray's job supervisor: from SIGTERM to SIGKILL, and a while for the launcher.
        "RAY_JOB_STOP_WAIT_TIME_S": str(SECONDS_TO_END + 10),
        **environment,
    }
    return {
        "entrypoint": entrypoint(spec),
        "runtime_env": {"env_vars": variables},
        "metadata": {IDENTITY: spec.fingerprint, "asset": spec.name},
        "submission_id": f"{spec.name}-{spec.fingerprint[:8]}-{uuid.uuid4().hex[:8]}",
        **wanted,
    }


def run_ray_job(
    spec: LaunchSpec,
    given: Mapping[str, str] | None = None,
    say: Say = lambda _: None,
) -> Manifest:
    """Run a workload to its end as a Ray job, unless its artefact is there already.

    A job of the same fingerprint that still runs (its Dagster run was killed) is waited for. An
    interrupt stops the job, and waits until its processes are ended.

    Raises:
        Preempted: its node was lost, or it was stopped by somebody else.
        LaunchError: it failed, or the cluster does not answer; says why.
    """
    done = read_manifest(spec.folder)
    if done is not None:
        return done
    with written(spec.folder):
        spec.folder.mkdir(parents=True, exist_ok=True)
    try:
        with job_server() as server:
            client = _client(server)
            job = _running_job(client, spec)
            if job is None:
                # Not a job of this cluster: another machine's, or what a lost node has left.
                wait_for_others(spec.folder, say)
                if (done := read_manifest(spec.folder)) is not None:
                    return done
                write_spec(spec)
                job = client.submit_job(**submission(spec, given or {}))
            say(f"Ray job {job} at {server.address}")
            details = _wait(client, job, say)
    except RayClusterError as error:
        raise LaunchError(f"{spec.name}: {error}") from error
    return _manifest_of(spec, job, details)


def _client(server: JobServer) -> "JobSubmissionClient":
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(server.address, headers=dict(server.headers) or None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RayClusterError(
            f"no Ray cluster at RAY_ADDRESS={server.address}: {str(error).strip()}"
        ) from error


def _running_job(client: "JobSubmissionClient", spec: LaunchSpec) -> str | None:
    """The job of the same fingerprint that has not ended, if there is one."""
    for job in client.list_jobs():
        same = (job.metadata or {}).get(IDENTITY) == spec.fingerprint
        if same and not job.status.is_terminal() and job.submission_id:
            return str(job.submission_id)
    return None


def _wait(client: "JobSubmissionClient", job: str, say: Say) -> "JobDetails":
    """The job's details when it has ended; stops it where this is interrupted."""
    try:
        return _poll(client, job, say)
    except RayClusterError:
        # It may well be running; a later run finds it again.
        raise
    except BaseException:
        client.stop_job(job)
        _poll(client, job, say, SECONDS_TO_STOP)
        raise


def _poll(
    client: "JobSubmissionClient", job: str, say: Say, seconds: float | None = None
) -> "JobDetails":
    """The details when the job has ended, or after `seconds`."""
    started = answered = time.monotonic()
    told = ""
    while True:
        now = time.monotonic()
        try:
            details = client.get_job_info(job)
            answered = now
            if details.status.is_terminal() or (seconds is not None and now - started > seconds):
                return details
            message = (details.message or "").strip()
            if message and message != told:
                told = message
                say(f"{details.status.value}: {message}")
        except (ConnectionError, RuntimeError, OSError) as error:
            if now - answered > SECONDS_WITHOUT_ANSWER:
                raise RayClusterError(
                    f"the cluster does not answer for {SECONDS_WITHOUT_ANSWER:.0f} s"
                    f" ({str(error).strip()}); job {job} may still be running"
                ) from error
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _manifest_of(spec: LaunchSpec, job: str, details: "JobDetails") -> Manifest:
    """The manifest, whatever Ray says of the job: it is the truth."""
    manifest = read_manifest(spec.folder)
    if manifest is not None:
        return manifest
    made_room = (
        details.status.value == "STOPPED"
        or details.driver_exit_code == PREEMPTED_EXIT_CODE
        or details.error_type in NODE_LOST
    )
    said = f"Ray job {job} {details.status.value}: {(details.message or '').strip()}"
    raise failure_of(spec, said, made_room=made_room)


def failure_of(spec: LaunchSpec, said: str, *, made_room: bool = False) -> LaunchError:
    """Why a job left no manifest: in its own words where it had the time for them."""
    written = spec.folder / REASON_NAME
    fetch(written)
    fetch(spec.folder / PREEMPTED_MARK)
    reason = written.read_text() if written.is_file() else f"{spec.name}: {said}"
    made_room = made_room or (spec.folder / PREEMPTED_MARK).exists()
    return (Preempted if made_room else LaunchError)(reason)
