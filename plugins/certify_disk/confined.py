"""qemu-img, where it can do no harm: it reads what images say, and images are hostile.

It runs by bubblewrap in namespaces of its own: as nobody, without network, without any capability, with nothing to see but
its program and the files it is given, under limits of memory, time and file size. Where that cannot be had it is not run.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from certify.errors import EngineUnavailable, ImageInvalid
from certify.logs import timed

_LOG = logging.getLogger(__name__)
_NOBODY = "65534"
_SYSTEM = ("/usr", "/bin", "/lib", "/lib64", "/lib32", "/sbin")
_TIMEOUT = 3600
_LIMITS = ("--as=8589934592", "--nofile=256", "--core=0", f"--cpu={_TIMEOUT}")
_MOST_WRITTEN = 2 * 2**40
_REMEDY = "apt-get install bubblewrap; in a container it needs user namespaces (--security-opt seccomp=unconfined)"


def qemu_img(
    *arguments: str, reads: Iterable[Path] = (), writes: Path | None = None, fine: tuple[int, ...] = (0,)
) -> bytes:
    """Run qemu-img, its format named by the caller. It sees the files ``reads``, and ``writes``, which is made when missing.

    Raises ImageInvalid with its last word, EngineUnavailable when it cannot be confined.
    """
    if writes is not None:
        writes.unlink(missing_ok=True)
        writes.touch(mode=0o600)
    command = [*_sandbox(reads, writes), "prlimit", *_LIMITS, f"--fsize={_MOST_WRITTEN}", "qemu-img", *arguments]
    try:
        with timed(_LOG, f"qemu-img {' '.join(arguments)}"):
            done = subprocess.run(
                command, capture_output=True, check=False, env={"PATH": os.defpath, "LC_ALL": "C"}, timeout=_TIMEOUT
            )
    except FileNotFoundError:
        raise EngineUnavailable("bubblewrap is not installed, and qemu-img is not run without it", _REMEDY) from None
    except subprocess.TimeoutExpired:
        raise ImageInvalid(f"qemu-img {arguments[0]} took longer than an hour", "do not use this file") from None
    if done.returncode in fine:
        return done.stdout
    said = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
    if said[-1].startswith("bwrap: execvp prlimit") or "failed to execute qemu-img" in said[-1]:
        raise EngineUnavailable("qemu-img is not installed", "apt-get install qemu-utils")
    if said[-1].startswith("bwrap:"):
        raise EngineUnavailable(f"qemu-img cannot be confined here: {said[-1]}", _REMEDY)
    if "No space left on device" in said[-1]:
        raise EngineUnavailable(f"qemu-img {arguments[0]}: no space left on this host", "make room; see images.store")
    raise ImageInvalid(f"qemu-img {arguments[0]}: {said[-1][:200]}", "it is cut or damaged; copy it again")


def _sandbox(reads: Iterable[Path], writes: Path | None) -> list[str]:
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += [
        "--uid",
        _NOBODY,
        "--gid",
        _NOBODY,
        "--clearenv",
        "--setenv",
        "PATH",
        os.defpath,
        "--setenv",
        "LC_ALL",
        "C",
    ]
    for place in map(Path, _SYSTEM):
        if place.is_symlink():
            command += ["--symlink", str(place.readlink()), str(place)]
        elif place.is_dir():
            command += ["--ro-bind", str(place), str(place)]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--dev", "/dev"]
    for path in reads:
        command += ["--ro-bind", str(path), str(path)]
    if writes is not None:
        command += ["--bind", str(writes), str(writes)]
    return [*command, "--"]
