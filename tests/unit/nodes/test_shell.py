"""The shell over a real ``sh``: what a command does, what it cannot do, and what happens when it misbehaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.errors import CommandTimeout, OutputLimit, ShellUnavailable
from certify.nodes.shell import Shell
from certify.testing.local import LocalMachine


@pytest.fixture
def machine() -> Iterator[LocalMachine]:
    machine = LocalMachine()
    yield machine
    machine.remove()


@pytest.fixture
def shell(machine: LocalMachine) -> Iterator[Shell]:
    shell = Shell(machine.open_channel, timeout=10, limit=1_000_000)
    yield shell
    shell.close()


def test_status_and_both_streams(shell: Shell) -> None:
    result = shell.run("echo out; echo err >&2; exit 3")
    assert (result.status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_output_is_binary_safe(shell: Shell) -> None:
    wanted = bytes(range(256)) * 50
    octal = "".join(f"\\{byte:03o}" for byte in wanted)
    assert shell.run(f"printf '{octal}'").stdout == wanted


def test_no_newline_is_added_or_lost(shell: Shell) -> None:
    assert shell.run("printf x").stdout == b"x"
    assert shell.run("printf 'x\\n\\n'").stdout == b"x\n\n"
    assert shell.run("true").stdout == b""


def test_commands_do_not_affect_each_other(shell: Shell) -> None:
    here = shell.run("pwd").stdout
    shell.run("cd /; X=1; set -e; set -f; trap 'echo no' EXIT; umask 0; exec 1>&2")
    assert shell.run("pwd; echo $X").stdout == here + b"\n"


@pytest.mark.parametrize(
    "command", ["exit 9", "false", "exec false", "kill -9 $$", "set -e; false", "return 1 2>/dev/null; false"]
)
def test_a_command_that_ends_its_shell_ends_only_itself(shell: Shell, command: str) -> None:
    if "$$" in command:
        with pytest.raises(ShellUnavailable):
            shell.run(command)
    else:
        assert shell.run(command).status != 0
    assert shell.run("echo on").text == "on"


@pytest.mark.parametrize("command", ["if", "echo 'open", "(", "${", "a b) c", "<<EOF", "\\"])
def test_a_syntax_error_is_the_commands_own(shell: Shell, command: str) -> None:
    shell.run(command)
    assert shell.run("echo on").text == "on"


def test_standard_input_is_empty(shell: Shell) -> None:
    assert shell.run("cat").stdout == b""
    assert shell.run("read x; echo $?").text == "1"


def test_a_timeout_kills_only_that_command(shell: Shell) -> None:
    started = time.monotonic()
    with pytest.raises(CommandTimeout, match="longer than 0.3 s"):
        shell.run("sleep 4321; echo never", timeout=0.3)
    assert time.monotonic() - started < 5
    assert shell.run("ps -eo args | grep -c '[s]leep 4321'").text == "0"


def test_a_command_that_ignores_signals_is_killed_too(shell: Shell) -> None:
    with pytest.raises(CommandTimeout):
        shell.run("trap '' TERM INT HUP; while :; do sleep 4322; done", timeout=0.3)
    assert shell.run("ps -eo args | grep -c '[s]leep 4322'").text == "0"


def test_endless_output_is_cut_off(shell: Shell) -> None:
    with pytest.raises(OutputLimit, match="more than 1000000 bytes"):
        shell.run("yes")
    with pytest.raises(OutputLimit):
        shell.run("yes >&2")
    assert shell.run("echo on").text == "on"


def test_output_just_within_the_limit(shell: Shell) -> None:
    assert len(shell.run("head -c 1000000 /dev/zero").stdout) == 1_000_000


def test_a_background_process_does_not_disturb(shell: Shell) -> None:
    shell.run("(sleep 0.2; echo late; echo late >&2) &")
    time.sleep(0.4)
    result = shell.run("echo mine")
    assert (result.stdout, result.stderr) == (b"mine\n", b"")


def test_output_that_imitates_the_framing(shell: Shell) -> None:
    fake = "E0123456789abcdef0123456789abcdef 0"
    result = shell.run(f"echo B; echo '{fake}'; echo '{fake}' >&2; exit 5")
    assert result.status == 5
    assert fake in result.text


def test_a_lost_channel_is_no_verdict_and_the_next_command_reconnects(shell: Shell, machine: LocalMachine) -> None:
    assert shell.run("echo on").text == "on"
    machine.channels[-1].process.kill()
    machine.channels[-1].process.wait()
    assert shell.run("echo again").text == "again"
    assert len(machine.channels) == 2


def test_an_answer_that_never_comes(machine: LocalMachine) -> None:
    machine.dead = "gone"
    with pytest.raises(ShellUnavailable, match="gone"):
        Shell(machine.open_channel).run("true")


def test_many_commands_in_one_go(shell: Shell) -> None:
    results = shell.run_many([f"echo {i}; echo {i} >&2; exit {i % 7}" for i in range(300)])
    assert [(r.text, r.stderr, r.status) for r in results] == [(str(i), f"{i}\n".encode(), i % 7) for i in range(300)]


def test_large_commands_in_one_go(shell: Shell) -> None:
    results = shell.run_many([f"printf %s '{'x' * 50_000}'"] * 20)
    assert [len(r.stdout) for r in results] == [50_000] * 20


def test_a_timeout_in_the_middle_of_many(shell: Shell) -> None:
    with pytest.raises(CommandTimeout):
        shell.run_many(["true", "sleep 60", "true"], timeout=0.3)
    assert shell.run("echo on").text == "on"


def test_threads_take_turns(shell: Shell) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: shell.run(f"echo {i}").text, range(60)))
    assert answers == [str(i) for i in range(60)]


def test_several_shells_run_side_by_side(machine: LocalMachine) -> None:
    shells = [Shell(machine.open_channel) for _ in range(4)]
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda shell: shell.run("sleep 0.5"), shells))
    assert time.monotonic() - started < 1.9
    for shell in shells:
        shell.close()


def test_a_nul_byte_is_refused_before_anything_is_sent(shell: Shell) -> None:
    with pytest.raises(ValueError, match="NUL"):
        shell.run("echo \0")
    assert shell.run("echo on").text == "on"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(st.binary(max_size=300), st.integers(0, 255))
def test_any_bytes_come_back(shell: Shell, data: bytes, status: int) -> None:
    octal = "".join(f"\\{byte:03o}" for byte in data)
    result = shell.run(f"printf '{octal}'; exit {status}")
    assert (result.stdout, result.status) == (data, status)
