"""Owners: a dead process is seen as dead, also when its pid is used again."""

from __future__ import annotations

import os
import subprocess
import sys

from certify.nodes.owner import is_alive, this_process


def test_this_process_is_alive() -> None:
    assert is_alive(this_process())


def test_a_process_that_has_ended_is_not() -> None:
    code = "from certify.nodes.owner import this_process; print(this_process())"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert not is_alive(name)


def test_a_reused_pid_is_not_mistaken() -> None:
    host, boot, pid, started = this_process().split("/")
    assert pid == str(os.getpid())
    assert not is_alive(f"{host}/{boot}/{pid}/{int(started) - 1}")
    assert not is_alive(f"{host}/another-boot/{pid}/{started}")


def test_another_host_cannot_be_judged() -> None:
    assert is_alive("elsewhere/boot/1/1")


def test_a_name_of_no_known_form_is_dead() -> None:
    assert not is_alive("") and not is_alive("a/b/c") and not is_alive("h/b/x/1")  # noqa: PT018
