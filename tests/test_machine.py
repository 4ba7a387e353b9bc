import os
from types import SimpleNamespace

import pytest

from segjax import machine
from segjax.machine import available_bytes, cores, device_bytes, taken_bytes

GB = 2**30


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The files of a machine of 16 GB."""
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 4 * 2**20, "SC_PAGE_SIZE": 4096}.get)
    return tmp_path


def write(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")


V1 = "9:name=systemd:/job\n4:cpu,memory:/slurm/job\n0::/"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (16 * GB, "computer")),
        ({"proc/self/cgroup": "0::/"}, (16 * GB, "computer")),
        (
            {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": 4 * GB},
            (4 * GB, "container"),
        ),
        (
            {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"},
            (16 * GB, "computer"),
        ),
        (
            {
                "proc/self/cgroup": "0::/user/shell",
                "sys/fs/cgroup/user/shell/memory.max": "max",
                "sys/fs/cgroup/user/memory.max": 8 * GB,
            },
            (8 * GB, "container"),
        ),
        (
            {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/slurm/job/memory.limit_in_bytes": GB},
            (GB, "container"),
        ),
        (
            {"proc/self/cgroup": V1, "sys/fs/cgroup/memory/memory.limit_in_bytes": 2**63 - 4096},
            (16 * GB, "computer"),
        ),
    ],
    ids=["no groups", "no limit", "v2", "v2 max", "v2 of a parent", "v1", "v1 without limit"],
)
def test_the_least_of_machine_and_groups_counts(root, files, expected):
    write(root, files)
    assert available_bytes(root) == expected


@pytest.mark.parametrize("line", [b"odd", b"0:x", b"", b"0::/\xff", b"0::/a\0b"])
def test_lines_that_name_no_group_are_passed_over(root, line):
    write(root, {"proc/self/cgroup": "", "sys/fs/cgroup/memory.max": GB})
    (root / "proc/self/cgroup").write_bytes(line + b"\n0::/\n")
    assert available_bytes(root) == (GB, "container")


def test_a_limit_is_known_where_the_machine_is_not(root, monkeypatch):
    monkeypatch.delattr(os, "sysconf")
    assert available_bytes(root) is None
    write(root, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": GB})
    assert available_bytes(root) == (GB, "container")


@pytest.mark.parametrize(
    ("platform", "stats", "expected"),
    [
        ("gpu", {"bytes_limit": 7}, (7, "GPU")),
        ("gpu", {}, None),
        ("gpu", None, None),
        ("cpu", None, (GB, "container")),
    ],
)
def test_memory_of_a_device_is_its_own_or_that_of_the_host(monkeypatch, platform, stats, expected):
    monkeypatch.setattr(machine, "available_bytes", lambda: (GB, "container"))
    device = SimpleNamespace(platform=platform, memory_stats=lambda: stats)
    assert device_bytes(device) == expected
    assert taken_bytes(device) == 0


def test_memory_that_is_taken_is_that_of_the_device():
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_in_use": 3})
    assert taken_bytes(device) == 3


def test_cores_are_those_that_the_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == 8
