"""certify.yaml and fleet.yaml: every mistake names file and line, and the nearest right name."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from certify.config import Config, config_model, fleet_model, load_fleet
from certify.config import load_config as load_config_with
from certify.errors import ConfigError
from certify.hooks import Plugins
from certify.models import Size, schema, seconds, size_bytes
from certify.nodes.platform import PlatformSettings


class Box(PlatformSettings, frozen=True):
    """Settings of a platform that some plugin brings."""

    memory: Size = "1GiB"


SECTIONS = {"container": Box()}


def load_config(path: Path | None) -> Config:
    return load_config_with(path, SECTIONS)


GOOD = """
version: 1
product: base-debian
suites: [baseline, ./suites/ours]
platforms:
  container: {driver: docker, memory: 512MiB}
channels:
  staging: {requires: {suites: [baseline], platforms: [container]}, valid_for: 30d}
  production: {after: staging}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "certify.yaml"
    path.write_text(text)
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.product == "base-debian"
    assert size_bytes(config.of_platform("container", Box).memory) == 512 * 1024**2
    assert seconds(config.channels["staging"].valid_for) == 30 * 86400


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert msgspec.to_builtins(load_config(None)) == msgspec.to_builtins(config_model(SECTIONS)())
    assert load_config_with(None) == Config()


def test_an_empty_mapping_means_the_defaults(tmp_path: Path) -> None:
    assert load_config_with(write(tmp_path, "{}")) == Config()


@pytest.mark.parametrize(
    ("text", "line", "says", "hint"),
    [
        ("version: 1\nproduct: x\nsuitess: [a]\n", 3, "suitess: no such setting", "did you mean 'suites'?"),
        ("platforms:\n  container:\n    memry: 1GiB\n", 3, "platforms.container.memry", "did you mean 'memory'?"),
        ("channels:\n  a: {}\n  b:\n    valid_for: soon\n", 4, "channels.b.valid_for", "certify schema"),
        ("channels:\n  a: {}\n  b:\n    aprovals: 1\n", 4, "channels.b.aprovals", "did you mean 'approvals'?"),
        ("version: 2\n", 1, "version", "certify schema"),
        ("suites: baseline\n", 1, "suites: expected `array`", "certify schema"),
        ("suites: [\n", 2, "not YAML", "indentation"),
        ("a: &a [*a]\n", 1, "contains itself", "aliases"),
        ("settings: {hygiene: 3}\n", 1, "settings.hygiene", "certify schema"),
    ],
)
def test_a_mistake_is_explained(tmp_path: Path, text: str, line: int, says: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    assert caught.value.message.startswith(f"{tmp_path}/certify.yaml:{line}:")
    assert says in caught.value.message
    assert hint in caught.value.hint
    assert "\n" not in caught.value.message


def test_after_must_name_a_channel(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no channel 'stagin'") as caught:
        load_config(write(tmp_path, "channels: {staging: {}, production: {after: stagin}}"))
    assert caught.value.hint == "did you mean 'staging'?"


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_file_that_is_not_text_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "certify.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path)


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    jsonschema.validate(yaml.safe_load(GOOD), schema(config_model(SECTIONS)))


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"suitess": []}, schema(config_model(SECTIONS)))


FLEET = "fleet: web\ninstances:\n- {name: a, publish: {8081: 8080}}\n- {name: b, publish: {%s: 8080}}\n"


def test_a_fleet_is_read(tmp_path: Path) -> None:
    fleet = load_fleet(write(tmp_path, FLEET % 8082), {})
    assert [instance.publish for instance in fleet.instances] == [{"8081": 8080}, {"8082": 8080}]
    jsonschema.validate({"fleet": "web", "instances": [{"name": "a"}]}, schema(fleet_model({})))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FLEET % 8081, "share the published port"),
        ("fleet: web\ninstances: [{name: a}, {name: a}]\n", "share the name 'a'"),
        ("fleet: web\ninstances: []\n", "instances"),
        ("fleet: web\ninstances: [{name: a, publish: {x: 80}}]\n", "keys are host ports"),
        ("instances: [{name: a}]\n", "missing required field `fleet`"),
        ("fleet: web\ninstnces: [{name: a}]\n", "instnces"),
    ],
)
def test_a_mistake_in_a_fleet_is_explained(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_fleet(write(tmp_path, text), {})
    assert says in caught.value.message


@given(st.text(max_size=200))
def test_no_text_makes_the_loader_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "certify.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        load_config(path)
    except ConfigError as error:
        assert error.message


#: Each value twice the one before: a few hundred bytes, and memory without end.
LAUGHS = "a: &b0 [x, x]\n" + "".join(f"b{n}: &b{n + 1} [*b{n}, *b{n}]\n" for n in range(24))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: it is empty"),
        ("# only words\n", ":1: it is empty"),
        ("product: a\nproduct: b\n", ":2: product is written twice"),
        ("channels:\n  p: {max_failed_runs: 0}\n  p: {max_failed_runs: 9}\n", ":3: p is written twice"),
        ("settings: {x: {1: a, '1': b}}\n", "1 is written twice"),
        (LAUGHS, "nested without end"),
    ],
)
def test_what_could_be_meant_in_two_ways_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "certify.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(says)):
        load_config(tmp_path / "certify.yaml")


def test_the_users_home_is_where_the_keys_are_named_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "certify.yaml").write_text("trust: {keys: ~/keys, root: null}\n")
    trust = load_config(tmp_path / "certify.yaml").trust
    assert (trust.keys, trust.root, trust.client) == (f"{tmp_path}/keys", None, ".certify/client")


@pytest.mark.parametrize(("text", "found"), [("platforms: {container: {memory: 2GiB}}", "2GiB"), ("{}", "1GiB")])
def test_a_platforms_section_is_its_plugins(tmp_path: Path, text: str, found: str) -> None:
    path = write(tmp_path, text)
    assert load_config(path).of_platform("container", Box).memory == found
    assert load_config_with(path).of_platform("container", Box).memory == found  # not looked at until then


def test_a_platform_that_nothing_brings_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"certify\.yaml:1: platforms\.contaner: no such setting") as caught:
        load_config(write(tmp_path, "platforms: {contaner: {}}"))
    assert caught.value.hint == "did you mean 'container'?"
    with pytest.raises(ConfigError, match="no platform 'vn'"):
        load_config(write(tmp_path, "channels: {a: {requires: {platforms: [vn]}}}"))


def test_a_fleet_has_its_drivers_section(tmp_path: Path) -> None:
    path = write(tmp_path, "fleet: web\ninstances: [{name: a}]\nbox: {memory: 2GiB}\n")
    assert load_fleet(path, {"box": Box()}).section("box", Box()).memory == "2GiB"
    with pytest.raises(ConfigError, match="box: no such setting"):
        load_fleet(path, {})


def test_every_setting_of_what_is_installed_says_what_it_is_for() -> None:
    plugins = Plugins()
    models = [
        config_model({n: k.settings for n, k in plugins.platform_kinds().items()}),
        fleet_model(plugins.fleet_settings()),
    ]
    for model in models:
        for name, definition in msgspec.json.schema(model)["$defs"].items():
            for field, described in definition["properties"].items():
                assert described.get("description"), f"{name}.{field}"


@pytest.mark.parametrize("name", ["our-box", "health", "instances"])
def test_a_plugins_section_takes_no_place_of_the_files_own(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, "fleet: web\ninstances: [{name: a}]\n")
    with pytest.raises(ConfigError, match=f"a section called '{name}'"):
        load_fleet(path, {name: Box()})
