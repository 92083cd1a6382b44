"""Build the sample images that are missing and load them into the engine, as ``certify-demo:good`` and so on."""

from __future__ import annotations

import time
from pathlib import Path

import docker

from tests.images.builder import HERE, build, load


def names() -> list[str]:
    """Every recipe's name."""
    return sorted(path.stem for path in Path(HERE).glob("demo-*.yaml"))


def main() -> None:
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


if __name__ == "__main__":
    main()
