"""Threads of a command: as many as it may use, and asleep while they wait."""

import os
import subprocess
import sys

import pytest

from helpers.paths import ROOT
from varsr_core.runtime.threads import usable_cpus

V2 = "0::/outer/inner\n"
V1 = "5:cpuacct,cpu:/outer/inner\n4:memory:/outer\n0::/\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Eight CPUs by affinity; files of /proc and /sys as given."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def make(groups, **files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
        for name, text in files.items():
            path = tmp_path / "sys/fs/cgroup" / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_affinity_counts_where_there_are_no_control_groups(tmp_path, machine):
    assert usable_cpus(tmp_path) == 8


def test_least_grant_of_all_groups_above_counts(machine):
    root = machine(
        V2, outer__inner__cpu_DOT_max="max 100000\n", outer__cpu_DOT_max="250000 100000\n"
    )
    assert usable_cpus(root) == 3


def test_container_sees_its_own_group_as_the_root(machine):
    assert usable_cpus(machine(V2, cpu_DOT_max="50000 100000\n")) == 1


def test_grants_of_the_first_version_count(machine):
    folder = "cpuacct,cpu__outer__"
    root = machine(
        V1,
        **{f"{folder}cpu.cfs_quota_us": "400000\n", f"{folder}cpu.cfs_period_us": "100000\n"},
        **{f"{folder}inner__cpu.cfs_quota_us": "-1\n"},
        **{f"{folder}inner__cpu.cfs_period_us": "100000\n"},
        **{"memory__outer__cpu.cfs_quota_us": "1", "memory__outer__cpu.cfs_period_us": "1"},
    )
    assert usable_cpus(root) == 4


def test_affinity_below_the_grant_counts(machine):
    assert usable_cpus(machine(V2, cpu_DOT_max="6400000 100000\n")) == 8


def in_own_process(code):
    code = f"import threading, torch\nfrom varsr_core.runtime.threads import use_threads\n{code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_process_has_more_threads_than_cpus_so_that_they_sleep_and_not_spin():
    code = (
        "use_threads(2); use_threads(2)\n"
        "print(torch.get_num_threads(), threading.active_count())\n"
        "print(psutil.Process().num_threads())"
    )
    told = in_own_process("import psutil\n" + code)
    assert told[:2] == ["2", "2"]
    assert int(told[2]) > os.cpu_count()


def test_one_thread_waits_for_none():
    code = "use_threads(1); print(torch.get_num_threads(), threading.active_count())"
    assert in_own_process(code) == ["1", "1"]


def test_without_a_choice_there_are_at_most_as_many_as_may_be_used():
    code = (
        "from varsr_core.runtime import threads\n"
        "torch.set_num_threads(4); threads.usable_cpus = lambda: 3\n"
        "use_threads(); print(torch.get_num_threads())\n"
        "torch.set_num_threads(2); use_threads(); print(torch.get_num_threads())"
    )
    assert in_own_process(code) == ["3", "2"]
