"""What Allure hands out is kept whole, without what is empty and without secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from allure_commons import model2

from pytest_certify.allure_results import AllureResults, shorten_others

SECRET = "ghp_" + "a1B2" * 9


@pytest.fixture
def results(tmp_path: Path) -> AllureResults:
    return AllureResults(tmp_path)


def test_a_result_is_kept_without_what_is_empty(results: AllureResults, tmp_path: Path) -> None:
    details = model2.StatusDetails(message="Ünicode", flaky=False)
    results.report_result(
        model2.TestResult(name="a", uuid="1", statusDetails=details, attachments=[model2.Attachment(name="b")])
    )
    [path] = tmp_path.iterdir()
    assert path.name.endswith("-result.json")
    assert json.loads(path.read_bytes()) == {
        "name": "a",
        "uuid": "1",
        "statusDetails": {"flaky": False, "message": "Ünicode"},
        "attachments": [{"name": "b"}],
    }


def test_containers_are_kept_that_belong_to_checks(results: AllureResults, tmp_path: Path) -> None:
    results.report_container(model2.TestResultContainer(uuid="1"))
    results.report_container(model2.TestResultContainer(uuid="2", children=["3"]))
    [path] = tmp_path.iterdir()
    assert json.loads(path.read_bytes())["uuid"] == "2"


def test_secrets_in_results_are_shortened(results: AllureResults, tmp_path: Path) -> None:
    results.report_result(model2.TestResult(name="a", statusDetails=model2.StatusDetails(message=f"found {SECRET}")))
    [path] = tmp_path.iterdir()
    assert SECRET not in path.read_text()
    assert json.loads(path.read_bytes())["statusDetails"]["message"].startswith("found ghp_a1B2")


@pytest.mark.parametrize("name", ["a.txt", "a.attach", "a.json", "a.csv", "a.png"])
@pytest.mark.parametrize("body", [SECRET, SECRET.encode(), f'{{"a": "{SECRET}"}}'])
def test_secrets_in_texts_that_are_attached_are_shortened(
    name: str, body: str | bytes, results: AllureResults, tmp_path: Path
) -> None:
    results.report_attached_data(body, name)
    assert SECRET not in (tmp_path / name).read_text()


def test_secrets_between_bytes_that_are_no_text_are_shortened(results: AllureResults, tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"\xff " + SECRET.encode())
    results.report_attached_file(str(tmp_path / "console.log"), "a.attach")
    assert (tmp_path / "a.attach").read_bytes().startswith(b"\xff ghp_a1B2[")


def test_pictures_stay_as_they_are(results: AllureResults, tmp_path: Path) -> None:
    picture = b"\x89PNG\r\n" + SECRET.encode()
    results.report_attached_data(picture, "a.png")
    assert (tmp_path / "a.png").read_bytes() == picture


def test_a_document_without_secrets_is_kept_as_it_was(results: AllureResults, tmp_path: Path) -> None:
    results.report_attached_data('{ "a":  1 }', "a.json")
    assert (tmp_path / "a.json").read_text() == '{ "a":  1 }'


def test_what_others_write_beside_is_shortened_too(results: AllureResults, tmp_path: Path) -> None:
    results.report_result(model2.TestResult(name="a", uuid="1"))
    [ours] = tmp_path.iterdir()
    before = ours.stat().st_mtime_ns
    (tmp_path / "environment.properties").write_text(f"found={SECRET}\n")
    (tmp_path / "mine-attachment.txt").write_text(SECRET)
    shorten_others(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if SECRET in path.read_text()] == []
    assert ours.stat().st_mtime_ns == before
