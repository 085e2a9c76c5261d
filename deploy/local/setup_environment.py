"""Create the virtual environment and install the lock into it, for `make setup`.

Runs on the machine's own Python, before anything is installed: standard library only. An
interrupted install goes on where it was (pip keeps finished packages); a finished one is known by
a mark that holds the lock's hash.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

MINIMUM_PYTHON = (3, 11)
NEEDED_GIB = 7
TORCH = "torch==2.13.0"
MARK = "installed.sha256"


def stop(message: str) -> None:
    sys.exit(f"setup: {message}")


def require_machine(folder: Path) -> None:
    if sys.version_info < MINIMUM_PYTHON:
        have = ".".join(map(str, sys.version_info[:3]))
        need = ".".join(map(str, MINIMUM_PYTHON))
        stop(f"Python {have} is too old; {need} or newer is needed: make PYTHON=/path/to/python …")
    free = shutil.disk_usage(folder).free / 2**30
    if free < NEEDED_GIB:
        stop(f"{folder}: {free:.1f} GiB free; the packages need {NEEDED_GIB}")


def create(environment: Path) -> Path:
    python = environment / "bin" / "python"
    works = (
        python.exists()
        and not subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode
    )
    if not works:
        print(f"setup: creating {environment}", flush=True)
        try:
            venv.create(environment, with_pip=True, clear=True)
        except (OSError, subprocess.CalledProcessError) as error:
            stop(f"{environment} cannot be created ({error}); Debian: apt-get install python3-venv")
    return python


def install(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--no-deps", "--disable-pip-version-check"]
    if subprocess.run([*command, "--progress-bar", "off", *arguments]).returncode:
        stop("the install did not finish (see above); run the same command again to go on")


def has(python: Path, requirement: str) -> bool:
    name, version = requirement.split("==")
    script = f"from importlib.metadata import version; print(version({name!r}))"
    found = subprocess.run([str(python), "-c", script], capture_output=True, text=True)
    return found.stdout.strip().split("+")[0] == version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, required=True)
    parser.add_argument("--lock", type=Path, required=True)
    given = parser.parse_args()
    wanted = hashlib.sha256(given.lock.read_bytes()).hexdigest()
    mark = given.venv / MARK
    if mark.is_file() and mark.read_text() == wanted:
        return
    require_machine(given.venv.resolve().parent)
    python = create(given.venv)
    print("setup: installing the locked packages (about 5 GB on disk; minutes)", flush=True)
    if not has(python, TORCH):
        # Not in the lock: its hash depends on the build (CPU or CUDA) that this machine is given.
        install(python, TORCH)
    install(python, "--require-hashes", "--requirement", str(given.lock))
    install(python, "--no-build-isolation", "--editable", ".")
    check = "import torch, vllm" if "cpu" in given.lock.name else "import torch"
    if subprocess.run([str(python), "-c", check], capture_output=True).returncode:
        stop(
            "torch or vllm cannot be imported; the lock is for the CPU build of torch:"
            " let pip find that build (PIP_EXTRA_INDEX_URL), remove the environment, try again"
        )
    mark.write_text(wanted)


if __name__ == "__main__":
    main()
