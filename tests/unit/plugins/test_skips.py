"""Which reasons for a skip are read from a suite's source, and for which checks they count."""

from __future__ import annotations

from pathlib import Path

from pytest_certify.skips import reasons_in

SOURCE = """
import pytest

@pytest.fixture
def sshd(host):
    if not host.exists("sshd"):
        pytest.skip("the image has no ssh server")

def helper():
    pytest.skip(reason="nothing to compare here")

def test_own(path):
    pytest.skip(f"the image has no /etc/{path}")
    pytest.skip(f"{path}")
    pytest.skip(path)

class TestClass:
    def test_in_class(self):
        pytest.skip("not [yet] ready")

def test_other():
    pass
"""


def test_reasons_belong_to_checks_fixtures_or_everything(tmp_path: Path) -> None:
    file = tmp_path / "test_x.py"
    file.write_text(SOURCE)
    reasons = reasons_in([file])
    everywhere = {"nothing to compare here"}
    assert reasons.of(file, "test_other", []) == everywhere
    assert reasons.of(file, "test_other", ["sshd"]) == everywhere | {"the image has no ssh server"}
    assert reasons.of(file, "test_own", []) == everywhere | {"the image has no /etc/*"}
    assert reasons.of(file, "TestClass::test_in_class", []) == everywhere | {"not [[]yet] ready"}
    assert reasons.of(tmp_path / "test_y.py", "test_own", []) == everywhere


def test_what_is_no_python_has_no_reasons(tmp_path: Path) -> None:
    for name, data in (("a.py", b"def ("), ("b.py", b"\xff\xfe\0"), ("c.py", b"\0")):
        (tmp_path / name).write_bytes(data)
    assert reasons_in([*tmp_path.glob("*.py"), tmp_path / "missing.py"]).helpers == set()
