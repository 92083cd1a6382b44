"""``python -m tests.images.defects RUN``: was every defect seeded in demo-bad found by the check that names it?"""

from __future__ import annotations

import sys
from pathlib import Path

from certify.evidence.bundle import Bundle
from certify.evidence.run import FAILED
from tests.images.builder import load


def missed(run_directory: Path) -> list[dict[str, str]]:
    """The seeded defects whose check did not fail in a run of all suites on demo-bad."""
    failed = {check.id for check in Bundle(run_directory).read_run().checks if check.outcome == FAILED}
    return [d for d in load("demo-bad").data["defects"] if not _found(d["check"], failed)]


def _found(check: str, failed: set[str]) -> bool:
    return any(name.startswith(f"certify_suites.{check}[") for name in failed)


def main(argument: str) -> int:
    defects, left = load("demo-bad").data["defects"], missed(Path(argument).resolve())
    for defect in defects:
        print(f"{'MISSED' if defect in left else 'found '}  {defect['what']:<48} {defect['check']}")
    print(f"{len(defects) - len(left)} of {len(defects)} seeded defects found")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
