"""``python -m tests.images.defects RUN [RECIPE]``: was every defect seeded in a bad image found by the check that names it?"""

from __future__ import annotations

import sys
from pathlib import Path

from certify.evidence.bundle import Bundle
from certify.evidence.run import FAILED
from tests.images.builder import load


def missed(run_directory: Path, recipe: str = "demo-bad") -> list[dict[str, str]]:
    """The seeded defects whose check did not fail in a run of all suites on the recipe's image."""
    failed = {check.id for check in Bundle(run_directory).read_run().checks if check.outcome == FAILED}
    return [d for d in load(recipe).data["defects"] if not _found(d["check"], failed)]


def _found(check: str, failed: set[str]) -> bool:
    return any(name.startswith(f"certify_suites.{check}[") for name in failed)


def main(argument: str, recipe: str = "demo-bad") -> int:
    defects, left = load(recipe).data["defects"], missed(Path(argument).resolve(), recipe)
    for defect in defects:
        print(f"{'MISSED' if defect in left else 'found '}  {defect['what']:<48} {defect['check']}")
    print(f"{len(defects) - len(left)} of {len(defects)} seeded defects found")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
