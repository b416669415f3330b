import ast
import json
from pathlib import Path

import pytest

import workers.sandbox
from workers.sandbox import confined
from workers.sandbox.container import Demultiplexer
from workers.sandbox.source import bundle
from workers.sandbox.supervisor import PROGRESS_LINE, parse_progress


@pytest.mark.parametrize("source", [bundle(), bundle(confined)], ids=["docker", "process"])
def test_the_bundle_stands_alone_and_fits_one_argument(source: str) -> None:
    tree = ast.parse(source)
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not any(name.partition(".")[0] in ("workers", "app") for name in modules)
    compile(source, "bundle", "exec")
    assert len(source.encode()) < 128 << 10


def test_the_supervisor_is_python_3_8() -> None:
    ast.parse(bundle(), feature_version=(3, 8))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"progress": 40}', {"progress": 40, "note": None}),
        (b'{"progress": 99.9, "note": "soon"}', {"progress": 99, "note": "soon"}),
        (b'{"progress": 0, "note": 3}', {"progress": 0, "note": None}),
    ],
)
def test_progress_lines(line: bytes, expected: object) -> None:
    assert parse_progress(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b"40",
        b"[]",
        b"{}",
        b'{"progress": "40"}',
        b'{"progress": true}',
        b'{"progress": 101}',
        b'{"progress": -1}',
        b'{"progress": NaN}',
        b"[" * 1000,
        json.dumps({"progress": 1, "note": "x" * PROGRESS_LINE}).encode(),
    ],
)
def test_what_is_not_a_progress_line_is_ignored(line: bytes) -> None:
    assert parse_progress(line) is None


def test_the_engines_framing_is_taken_off_at_any_cut() -> None:
    stream = b"\1\0\0\0\0\0\0\5hello" + b"\2\0\0\0\0\0\0\6a\noops" + b"\1\0\0\0\0\0\0\1!"
    for size in range(1, len(stream) + 1):
        demultiplexer = Demultiplexer()
        assert b"".join(demultiplexer.feed(stream[i : i + size]) for i in range(0, len(stream), size)) == b"hello!"
        assert demultiplexer.complaint == "oops"


DANGEROUS = """
acct add_key bpf chroot clone clone3 delete_module finit_module fsconfig fsmount fsopen fspick
init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load
kexec_load keyctl mount mount_setattr move_mount name_to_handle_at open_by_handle_at open_tree
perf_event_open personality pidfd_getfd pivot_root prlimit64 process_vm_readv process_vm_writev
ptrace quotactl reboot request_key sched_setaffinity sched_setattr sched_setparam sched_setscheduler
setns setpriority socket socketpair swapoff swapon syslog umount2 unshare userfaultfd vhangup
"""


def test_the_seccomp_profile_denies_by_default_and_allows_nothing_that_is_named_dangerous() -> None:
    profile = json.loads(Path(workers.sandbox.__file__).with_name("seccomp.json").read_text())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    unconditional = {
        name
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule["names"]
    }
    assert unconditional.isdisjoint(DANGEROUS.split())
