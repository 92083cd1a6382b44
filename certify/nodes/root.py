"""The proof that root on a node is root: it can read what nobody may, and it has the capabilities of one.

A container whose process 1 gave up its capabilities for good hands out a "root" that cannot look into other users' folders:
whatever lies there would be missing from every answer, and every check of it would pass.
"""

from __future__ import annotations

from certify.errors import BootFailed
from certify.nodes.shell import Result

#: capabilities(7): CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID.
_NEEDED = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 5: "KILL", 6: "SETGID", 7: "SETUID"}
#: A file of mode 0000 is written where there is room, and read back, by shell built-ins; `rm`, where there is one, takes it away.
PROOF = """
u= c= w=nowhere
while read -r k v; do case $k in Uid:) set -- $v; u=$2;; CapEff:) c=$v;; esac; done </proc/self/status
for d in /dev/shm /run /tmp /var/tmp; do
  f=$d/.certify-root-$$
  if ( umask 777; set -C; echo proof >"$f" ) 2>/dev/null; then
    w=; { read -r w <"$f"; } 2>/dev/null || :; { rm -f "$f"; } 2>/dev/null || :; break
  fi
done
echo "$u $c ${w:-unreadable}"
"""


def require_root(answer: Result) -> None:
    """Raise BootFailed (no verdict) unless the answer to :data:`PROOF` is that of a root that is root."""
    fields = answer.text.split()
    uid, capabilities, read = fields if len(fields) == 3 else ("?", "", "?")
    if uid != "0":
        raise _refused(f"its user id is {uid}")
    has = int(capabilities, 16) if all(c in "0123456789abcdef" for c in capabilities) and capabilities else 0
    lacking = [name for bit, name in _NEEDED.items() if not has >> bit & 1]
    if lacking:
        raise _refused(f"it lacks the capabilities {', '.join(lacking)}")
    if read not in ("proof", "nowhere"):
        raise _refused("it cannot read a file of mode 0000")


def _refused(reason: str) -> BootFailed:
    return BootFailed(
        f"root on the node is no root: {reason}, so what it cannot see would pass",
        "run on an engine that gives root its capabilities; see certify doctor",
    )
