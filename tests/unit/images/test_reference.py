"""References: every documented form, every mistake with a hint."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.errors import BadReference
from certify.images.reference import Reference, parse

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("docker-daemon:app:1.2", Reference("docker-daemon", "app", "1.2")),
        ("docker-daemon:app", Reference("docker-daemon", "app", "latest")),
        ("app:1.2", Reference("docker-daemon", "app", "1.2")),
        ("team/app", Reference("docker-daemon", "team/app", "latest")),
        ("localhost:5000/app", Reference("docker-daemon", "localhost:5000/app", "latest")),
        (f"docker-daemon:{DIGEST}", Reference("docker-daemon", "", digest=DIGEST)),
        ("oci:dir:v1", Reference("oci", "dir", "v1")),
        ("oci:dir", Reference("oci", "dir")),
        ("oci-archive:a.tar", Reference("oci-archive", "a.tar")),
        ("docker-archive:a.tar:app:1", Reference("docker-archive", "a.tar", "app:1")),
        ("docker://localhost:5000/a/b:1", Reference("docker", "localhost:5000/a/b", "1")),
        ("docker://debian", Reference("docker", "docker.io/library/debian", "latest")),
        ("docker://team/app:1", Reference("docker", "docker.io/team/app", "1")),
        (f"docker://reg.example/app:1@{DIGEST}", Reference("docker", "reg.example/app", None, DIGEST)),
        ("disk.qcow2", Reference("disk", "disk.qcow2")),
        ("images/base.raw.zst", Reference("disk", "images/base.raw.zst")),
    ],
)
def test_documented_forms(text: str, wanted: Reference) -> None:
    assert parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("docker-deamon:app:1", "unknown transport 'docker-deamon'", "did you mean docker-daemon:?"),
        ("dockr://reg/app", "unknown transport 'dockr'", "did you mean docker:?"),
        ("ftp://x/y", "unknown transport", "known:"),
        ("docker:reg/app", "needs two slashes", "docker://"),
        ("docker-daemon:", "nothing after", "NAME"),
        ("docker://", "nothing after", "REGISTRY"),
        (":1.2", "is no image name", "needs a name before it"),
        ("App:1", "is no image name", "lower case"),
        ("app:", "is no", ""),
        ("app:a b", "is no tag", "letters"),
        ("docker://reg.example/app@sha256:12", "is no digest", "64 hex"),
        ("oci::tag", "no path", "oci:DIR"),
        ("", "empty", ""),
        ("a\0b", "empty or not text", ""),
    ],
)
def test_mistakes_are_explained(text: str, says: str, hint: str) -> None:
    with pytest.raises(BadReference) as caught:
        parse(text)
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_a_file_that_is_no_disk_image(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "image.tar").touch()
    with pytest.raises(BadReference, match="not a known disk image"):
        parse(str(tmp_path / "image.tar"))


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_an_explained_mistake(text: str) -> None:
    try:
        found = parse(text)
    except BadReference as error:
        assert error.hint
        assert "\n" not in error.message
    else:
        assert found.location or found.digest


@given(st.from_regex(r"[a-z0-9]{1,8}(/[a-z0-9]{1,8})?:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,10}", fullmatch=True))
def test_printing_and_reading_again_is_the_same(text: str) -> None:
    found = parse(text)
    assert parse(str(found)) == found
