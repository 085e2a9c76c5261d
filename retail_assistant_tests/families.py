"""A process's descendants, of which any may end while one looks."""

import contextlib

import psutil


def family_of(process: psutil.Process) -> list[tuple[psutil.Process, list[str]]]:
    """Those below a process that live now, however far below, with their command lines."""
    found: list[tuple[psutil.Process, list[str]]] = []
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append((one, one.cmdline()))
    return found
