"""Recipes → docker archives → the engine.

A recipe is YAML: ``base: debian`` or none, ``extends``, ``files``, ``links``, ``append``, ``replace`` and the config's
fields. Every image is cached under ``.cache/images/<recipe digest>.tar``; the Debian base is one layer shared by all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "images"
PACKAGES = "systemd,systemd-sysv,dbus,libpam-systemd,openssh-server,tzdata,sudo,procps,iproute2,passwd,ca-certificates"
#: A machine of its own needs a kernel, a device manager and the time beside that.
MACHINE = "linux-image-cloud-amd64,initramfs-tools,zstd,udev,systemd-timesyncd,e2fsprogs"
EPOCH = 1_700_000_000


@dataclass(frozen=True)
class Recipe:
    """One recipe, with what it extends merged in."""

    name: str
    data: dict[str, Any]

    @property
    def digest(self) -> str:
        """Changes whenever anything that goes into the image does."""
        parts = [
            json.dumps(self.data, sort_keys=True),
            PACKAGES,
            *(_source(f) for f in ("web.c", "base.sh", "builder.py")),
        ]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _source(name: str) -> str:
    return (HERE / name).read_text()


def load(name: str) -> Recipe:
    """Read ``<name>.yaml``; mappings of the extended recipe are merged, other values replaced."""
    data = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    if "extends" in data:
        parent = load(data.pop("extends")).data
        merged = {**parent, **data}
        for key in ("files", "links", "append", "replace", "labels"):
            merged[key] = {**parent.get(key, {}), **data.get(key, {})}
        data = merged
    return Recipe(name, data)


def build(recipe: Recipe) -> Path:
    """The recipe's docker archive, from the cache or made now."""
    archive = CACHE / f"{recipe.name}-{recipe.digest}.tar"
    if not archive.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        base = [debian_base()] if recipe.data.get("base") == "debian" else []
        overlay = _overlay(recipe, base[0] if base else None)
        partial = archive.with_suffix(".partial")
        with tarfile.open(partial, "w") as tar:
            _write_archive(tar, recipe, [*base, overlay])
        partial.rename(archive)
        overlay.unlink()
    return archive


def debian_base(*, machine: bool = False, more: str = "") -> Path:
    """The Debian root filesystem as a tar archive: for containers, or for machines with a kernel and ``more`` packages."""
    packages = ",".join(filter(None, [PACKAGES, MACHINE if machine else "", more]))
    hooks = ["base.sh", "disk.sh"] if machine else ["base.sh"]
    sources = [*hooks, "initramfs.sh"] if machine else hooks
    key = hashlib.sha256((packages + "".join(map(_source, sources))).encode()).hexdigest()[:16]
    base = CACHE / f"debian-{key}.layer"
    if not base.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        partial = CACHE / f"debian-{key}.partial.tar"
        command = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
            f"--include={packages}",
        ]
        command += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale")]
        if machine:
            command.append(f'--essential-hook=sh {HERE / "initramfs.sh"} "$1"')
        command += [f'--customize-hook=sh {HERE / hook} "$1"' for hook in hooks]
        command += ["bookworm", str(partial)]
        subprocess.run(
            command, check=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": str(EPOCH)}
        )
        _without_devices(partial, base)
        partial.unlink()
    return base


def _without_devices(source: Path, target: Path) -> None:
    """Layers carry no device nodes: the engine makes /dev."""
    partial = target.with_suffix(".part")
    with tarfile.open(source) as old, tarfile.open(partial, "w") as new:
        for member in old:
            member.name = member.name.removeprefix("./").rstrip("/")
            if not member.name or member.name == "." or member.ischr() or member.isblk():
                continue
            if member.islnk():
                member.linkname = member.linkname.removeprefix("./")
            new.addfile(member, old.extractfile(member) if member.isreg() else None)
    partial.rename(target)


def _overlay(recipe: Recipe, base: Path | None) -> Path:
    path = CACHE / f"{recipe.name}-{recipe.digest}.overlay"
    with tarfile.open(path, "w") as tar:
        for info, content in entries(recipe.data, base):
            info.mtime = EPOCH
            tar.addfile(info, io.BytesIO(content) if content is not None else None)
    return path


def entries(data: dict[str, Any], base: Path | None) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    contents = {name: _content(spec) for name, spec in data.get("files", {}).items()}
    for name, (old, new) in data.get("replace", {}).items():
        text = contents[name].decode() if name in contents else _from_base(base, name)[1].decode()
        assert old in text, f"{name} has no {old!r}"
        contents[name] = text.replace(old, new).encode()
    for name, text in data.get("append", {}).items():
        contents[name] = (contents.get(name) or _from_base(base, name)[1]) + text.encode()
    for name, spec in data.get("folders", {}).items():
        info = tarfile.TarInfo(name.lstrip("/"))
        info.type, info.mode, info.uid = tarfile.DIRTYPE, int(str(spec["mode"]), 8), int(spec.get("uid", 0))
        yield info, None
    for name, content in contents.items():
        spec = data.get("files", {}).get(name) or _from_base(base, name)[0]
        info = tarfile.TarInfo(name.lstrip("/"))
        info.size, info.mode = len(content), int(str(spec.get("mode", "0644")), 8)
        info.uid, info.gid = int(spec.get("uid", 0)), int(spec.get("gid", 0))
        yield info, content
    for name, target in data.get("links", {}).items():
        info = tarfile.TarInfo(name.lstrip("/"))
        info.type, info.linkname = tarfile.SYMTYPE, target
        yield info, None


def _content(spec: dict[str, Any]) -> bytes:
    if "program" in spec:
        return _compiled(spec["program"])
    if "copy" in spec:
        return Path(spec["copy"]).read_bytes()
    return str(spec.get("content", "")).encode()


def _from_base(base: Path | None, name: str) -> tuple[dict[str, Any], bytes]:
    assert base is not None, f"{name}: no base to take it from"
    with tarfile.open(base) as tar:
        member = tar.getmember(name.lstrip("/"))
        file = tar.extractfile(member)
        assert file is not None
        return {"mode": f"{member.mode:o}", "uid": member.uid, "gid": member.gid}, file.read()


def _compiled(program: str) -> bytes:
    source = HERE / f"{program}.c"
    binary = CACHE / f"{program}-{hashlib.sha256(source.read_bytes()).hexdigest()[:16]}"
    if not binary.exists():
        subprocess.run(["gcc", "-static", "-O2", "-Wall", "-Werror", "-s", "-o", str(binary), str(source)], check=True)
    return binary.read_bytes()


def _write_archive(tar: tarfile.TarFile, recipe: Recipe, layers: list[Path]) -> None:
    diff_ids, names = [], []
    for layer in layers:
        digest = _file_digest(layer)
        diff_ids.append(f"sha256:{digest}")
        names.append(f"{digest}/layer.tar")
        tar.add(layer, names[-1])
    config = json.dumps(_config(recipe.data, diff_ids)).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    tag = f"certify-demo:{recipe.name.removeprefix('demo-')}"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [tag], "Layers": names}]).encode()
    for name, content in ((config_name, config), ("manifest.json", manifest)):
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def _config(data: dict[str, Any], diff_ids: list[str]) -> dict[str, Any]:
    machine = subprocess.run(
        ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
    ).stdout.strip()
    inner = {
        "Entrypoint": data.get("entrypoint"),
        "Cmd": data.get("command"),
        "User": str(data.get("user", "")),
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *data.get("env", [])],
        "ExposedPorts": {port: {} for port in data.get("ports", [])},
        "Labels": data.get("labels"),
        "StopSignal": data.get("stop_signal"),
    }
    return {
        "architecture": machine,
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {key: value for key, value in inner.items() if value},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2023-11-14T22:13:20Z", "created_by": "certify sample"} for _ in diff_ids],
    }


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
