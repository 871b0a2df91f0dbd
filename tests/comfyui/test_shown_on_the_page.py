"""The page's own list of nodes is what the nodes say of themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT

PRINT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tools.generate.page import FILE, content
from tools.generate.read_nodes import read_nodes
same = content(read_nodes(Path(sys.argv[2]))) == FILE.read_text(encoding="utf-8")
sys.exit(not same)
"""


def test_list_is_the_one_that_the_tool_writes(hosts: dict[str, Path]) -> None:
    command = [sys.executable, "-c", PRINT, str(ROOT), str(hosts["0.30.0"])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"run tools/generate/page.py\n{done.stderr[-2000:]}"
