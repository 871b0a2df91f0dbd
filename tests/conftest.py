"""How the tests share out over processes, where there are several (pytest -n 2)."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.comfyui.server import HOST_VERSIONS


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """What uses one host stays together, as booting it is slow; so do the tests of a file."""
    from xdist.scheduler import LoadScopeScheduling

    class ByHost(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            parameters = test.partition("[")[2].replace("-", " ").replace("]", " ").split()
            return next((host for host in HOST_VERSIONS if host in parameters), file)

    return ByHost(config, log)
