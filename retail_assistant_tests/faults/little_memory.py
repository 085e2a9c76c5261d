"""A training with little memory: `python -m retail_assistant_tests.faults.little_memory`.

Once the libraries are loaded, its data may grow by so much and no more, as on a small machine.
"""

import re
import resource
from pathlib import Path

from retail_assistant.training import finetune
from retail_assistant.training.fitting.trainer import trainer_class

GROWTH = 400 * 2**20


def main() -> None:
    trainer_class()
    found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    limit = int(found[1]) * 1024 + GROWTH
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    finetune.main()


if __name__ == "__main__":
    main()
