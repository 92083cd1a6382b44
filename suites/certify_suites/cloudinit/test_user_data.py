"""User-data of every common kind (cloud-init's documentation, "User data formats"), on a machine of its own."""

from __future__ import annotations

from collections.abc import Callable
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest

from certify.nodes.node import Node

_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICertifyUserDataKeyThatOpensNothing00000 certify"
_CONFIG = f"""#cloud-config
hostname: told-by-user-data
timezone: Etc/UTC
users:
- default
- name: certify-user
  shell: /bin/sh
  groups: [adm]
  ssh_authorized_keys: ["{_KEY}"]
write_files:
- path: /etc/certify-written
  content: written
  permissions: '0640'
bootcmd:
- [sh, -c, 'echo x >>/var/lib/certify-bootcmd']
runcmd:
- [sh, -c, 'echo x >>/var/lib/certify-runcmd']
"""
_SCRIPT = "#!/bin/sh\necho x >>/var/lib/certify-script\n"
_HOOK = "#cloud-boothook\n#!/bin/sh\necho x >>/var/lib/certify-boothook\n"
#: What is asked → what must be answered after the first boot.
_ASKED = {
    "hostname": "told-by-user-data",
    "id -nG certify-user": "certify-user adm",
    "cut -d' ' -f1,2 ~certify-user/.ssh/authorized_keys": _KEY.rpartition(" ")[0],
    "stat -c %a /etc/certify-written; cat /etc/certify-written": "640\nwritten",
    "cat /var/lib/certify-bootcmd": "x",
    "cat /var/lib/certify-runcmd": "x",
    "cat /var/lib/certify-script": "x",
    "cat /var/lib/certify-boothook": "x",
}
#: What grows with every boot and what does not, after the second.
_AGAIN = {
    "wc -l </var/lib/certify-bootcmd": "2",
    "wc -l </var/lib/certify-boothook": "2",
    "wc -l </var/lib/certify-runcmd": "1",
    "wc -l </var/lib/certify-script": "1",
    "hostname": "told-by-user-data",
}


def _user_data() -> bytes:
    parts = MIMEMultipart()
    for kind, text in (("cloud-config", _CONFIG), ("x-shellscript", _SCRIPT), ("cloud-boothook", _HOOK)):
        parts.attach(MIMEText(text, kind))
    return parts.as_bytes()


def _wrong(node: Node, expected: dict[str, str]) -> dict[str, str]:
    answers = node.run_many(list(expected))
    return {
        ask: answer.text
        for (ask, right), answer in zip(expected.items(), answers, strict=True)
        if answer.text.strip() != right
    }


@pytest.mark.destructive
@pytest.mark.needs("reboot")
def test_every_kind_is_honoured_and_nothing_is_done_twice(cloud_node: Node, other_node: Callable[..., Node]) -> None:
    """Configuration by user-data is the only thing that makes one image many machines."""
    node = other_node(user_data=_user_data())
    assert "status: done" in node.run_many(["cloud-init status --wait"], timeout=300)[0].text
    assert _wrong(node, _ASKED) == {}
    node.reboot()
    assert "status: done" in node.run_many(["cloud-init status --wait"], timeout=300)[0].text
    assert _wrong(node, _AGAIN) == {}
