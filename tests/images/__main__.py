"""Build the sample images that are missing: containers into the engine (``certify-demo:good`` …), disks as files."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import docker

from tests.images.builder import CACHE, HERE, build, load
from tests.images.disk import build_disk, kernel


def names() -> list[str]:
    """Every recipe's name."""
    return sorted(path.stem for path in Path(HERE).glob("demo-*.yaml"))


def main() -> None:
    """All of them, or the disks that are named."""
    if len(sys.argv) > 1:
        make_disks(sys.argv[1:])
        return
    client = docker.from_env(timeout=300)
    for name in names():
        started = time.monotonic()
        recipe = load(name)
        tag, marker = f"certify-demo:{name.removeprefix('demo-')}", recipe.digest
        if f"certify-demo-recipe:{name}-{marker}" in {
            t for i in client.api.images("certify-demo-recipe") for t in i["RepoTags"] or ()
        }:
            client.api.tag(f"certify-demo-recipe:{name}-{marker}", *tag.split(":"))
            print(f"images: {tag} ready", flush=True)
            continue
        with build(recipe).open("rb") as file:
            client.images.load(file)
        client.api.tag(tag, "certify-demo-recipe", f"{name}-{marker}")
        print(f"images: {tag} built in {time.monotonic() - started:.1f} s", flush=True)
    make_disks(["disk-good", "disk-base"])
    for built, name in zip(kernel(), ("vmlinuz", "initrd.img"), strict=True):
        (CACHE / name).unlink(missing_ok=True)
        (CACHE / name).hardlink_to(built)


def make_disks(names: list[str]) -> None:
    """``.cache/images/<name>.qcow2`` for each."""
    for name in names:
        started = time.monotonic()
        disk, link = build_disk(load(name)), CACHE / f"{name}.qcow2"
        link.unlink(missing_ok=True)
        link.hardlink_to(disk)
        took = time.monotonic() - started
        print(f"images: .cache/images/{name}.qcow2 " + (f"built in {took:.1f} s" if took > 1 else "ready"), flush=True)


if __name__ == "__main__":
    main()
