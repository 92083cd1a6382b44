"""Which settings evidence carries: those that decide what is checked, the driver always among them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from certify.config import config_model
from certify.evidence.settings import deciding_settings
from certify.gate.lock import Extras, make_lock
from certify.images.candidate import digest_of
from certify.nodes.platform import PlatformSettings


class Box(PlatformSettings, frozen=True):
    """Settings of some platform."""

    DECIDING: ClassVar[tuple[str, ...]] = ("mode", "seed")
    FILES: ClassVar[tuple[str, ...]] = ("seed",)

    driver: str = "box"
    mode: str = "auto"
    seed: str | None = None
    memory: str = "1GiB"


def test_files_count_by_their_bytes_and_what_a_host_can_spare_does_not(tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("x")
    found = deciding_settings(Box(seed=str(tmp_path / "seed"), memory="2GiB"))
    assert found == {"driver": "box", "mode": "auto", "seed": digest_of(b"x")}
    assert deciding_settings(Box(seed=str(tmp_path / "nowhere")))["seed"] == "unreadable: No such file or directory"


def test_a_platform_whose_settings_decide_nothing_else_is_still_pinned_by_its_driver() -> None:
    assert deciding_settings(PlatformSettings(driver="moon")) == {"driver": "moon"}
    lock = make_lock(config_model({"box": Box(driver="moon")})(), [], {}, Extras())
    assert lock.platforms["box"]["driver"] == "moon"
