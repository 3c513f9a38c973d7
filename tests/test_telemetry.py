"""
Nothing is written to the home folder and no socket is opened.

A child process with an empty HOME and without the variables by which onnxruntime recognises
a CI machine decodes a prompt under a seccomp filter that ends it at the first socket() call,
from Python or from native code. The controls show that both checks can fail.
"""

import os
import platform
import subprocess
import sys

import pytest

SOCKET = {"x86_64": 41, "aarch64": 198}.get(platform.machine())  # the number of the system call

NO_SOCKETS = f"""
import ctypes, struct

class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

def forbid_sockets():
    LOAD, JUMP_EQUAL, RETURN = 0x20, 0x15, 0x06
    KILL, ALLOW = 0x80000000, 0x7FFF0000
    code = b"".join(
        struct.pack("HBBI", *op)
        for op in [(LOAD, 0, 0, 0), (JUMP_EQUAL, 0, 1, {SOCKET}), (RETURN, 0, 0, KILL), (RETURN, 0, 0, ALLOW)]
    )
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, ctypes.byref(Program(4, code)), 0, 0) == 0  # PR_SET_SECCOMP, filter

forbid_sockets()
"""
DECODE = """
import time, decodekit
decoder = decodekit.load("tagline")
assert decoder.generate("Give me a tagline for a new coffee shop.").text
time.sleep(2)  # events are sent from a thread of their own
"""
CI_VARIABLES = (
    "CI",
    "TF_BUILD",
    "GITHUB_ACTIONS",
    "JENKINS_URL",
    "GITLAB_CI",
    "BUILD_ID",
    "BUILD_NUMBER",
    "CIRCLECI",
    "TRAVIS",
    "APPVEYOR",
    "TEAMCITY_VERSION",
    "CODEBUILD_BUILD_ID",
    "BUILDKITE",
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or SOCKET is None,
    reason="the filter on system calls is for Linux on x86-64 and arm64",
)


def child(code, home, **variables):
    environment = {
        k: v for k, v in os.environ.items() if k not in CI_VARIABLES and not k.startswith(("ORT_", "XDG_"))
    }
    environment |= {"HOME": str(home), **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=home, capture_output=True, text=True
    )


def written(home):
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file())


def test_decoding_writes_nothing_home_and_opens_no_socket(tmp_path):
    done = child(NO_SOCKETS + DECODE, tmp_path)
    assert done.returncode == 0, done.stderr
    assert written(tmp_path) == []


def test_the_control_a_user_who_opts_in_is_seen_by_the_check(tmp_path):
    done = child(DECODE, tmp_path, ORT_DISABLE_TELEMETRY="0")
    assert done.returncode == 0, done.stderr
    assert any("onnxruntime" in name for name in written(tmp_path))


def test_the_control_a_socket_ends_the_child(tmp_path):
    done = child(NO_SOCKETS + "import socket; socket.socket()", tmp_path)
    assert done.returncode == -31  # SIGSYS
