"""Checks the style and runs the tests: python3 tools/test.py [pytest arguments].

The one command for a person and for continuous integration. It prepares the environment first,
so it works in a fresh clone with a bare Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from environment import ROOT, PreparationError, prepare, prepare_browser

# Two processes: one for each ComfyUI, which the files that need none then share. The slowest tests
# are told, for the whole is to stay short on machines of any speed.
ALL = ["-n", "2", "-rfER", "--durations=25", "tests"]
CHECKS = (
    ["ruff", "check", "."],
    # What the ComfyUI registry checks on publishing: exec, eval and ";".
    ["ruff", "check", "--select", "S102,S307,E702", "."],
    ["ruff", "format", "--check", "--quiet", "."],
    ["basedpyright"],
)


def main(arguments: list[str]) -> int:
    try:
        environment, browser = prepare(), prepare_browser()
    except PreparationError as error:
        print(f"The test environment could not be made: {error}", file=sys.stderr)
        return 1
    for check in CHECKS:
        command = [environment.python, "-m", *check]
        status = subprocess.run(command, check=False, cwd=ROOT).returncode
        if status:
            return status
    hosts = {version: str(host) for version, host in environment.hosts.items()}
    return subprocess.run(
        [environment.python, "-m", "pytest", *(arguments or ALL)],
        check=False,
        cwd=ROOT,
        env={
            **os.environ,
            "COMFYUI_HOSTS": json.dumps(hosts),
            "COMFYUI_BROWSER": str(browser),
            "GOMP_SPINCOUNT": "1000",  # hosts run beside the tests: threads that wait sleep
        },
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
