"""Which check gets which node, for how long, and what stays of it."""

from __future__ import annotations

import docker
import pytest

from tests.integration.conftest import DEMO, Workspace, left_behind

SCRATCH = DEMO + "scratch"


@pytest.mark.parametrize(("isolation", "made"), [("run", 1), ("module", 1), ("check", 2)])
def test_a_module_wide_fixture_is_made_anew_for_another_node(work: Workspace, isolation: str, made: int) -> None:
    work.write(
        "test_m.py",
        """
import pathlib
import pytest

@pytest.fixture(scope="module")
def prepared(node):
    with pathlib.Path("made.txt").open("a") as file:
        file.write(node.name + chr(10))
    assert node.run("echo on >/prepared").ok
    return node.name

def test_a(prepared, node): assert node.name == prepared and node.run("cat /prepared").text == "on"
def test_b(prepared, node): assert node.name == prepared and node.run("cat /prepared").text == "on"
""",
    )
    done = work.pytest("--image", SCRATCH, "test_m.py", "--isolation", isolation)
    assert done.status == 0, done.text
    assert len((work.path / "made.txt").read_text().split()) == made


@pytest.mark.parametrize(("isolation", "nodes"), [("run", 1), ("module", 2), ("check", 3)])
def test_isolation(work: Workspace, isolation: str, nodes: int) -> None:
    work.write("test_a.py", "def test_1(node): node.run('touch /1')\ndef test_2(node): pass\n")
    work.write("test_b.py", "def test_3(node): pass\n")
    assert work.pytest("--image", SCRATCH, "test_a.py", "test_b.py", "--isolation", isolation).status == 0
    assert len({c["node"] for c in work.last_run["checks"]}) == nodes


def test_destructive_checks_and_second_nodes(work: Workspace, engine: docker.DockerClient) -> None:
    work.write(
        "test_d.py",
        "import pytest\n"
        "@pytest.mark.destructive\n"
        "def test_d(node): node.run('touch /broken')\n"
        "def test_clean(node): assert not node.run('test -e /broken').ok\n"
        "def test_two(node, second_node):\n"
        "    node.run('touch /mine')\n"
        "    assert not second_node.run('test -e /mine').ok\n"
        "    assert second_node.name != node.name\n",
    )
    done = work.pytest("--image", SCRATCH, "test_d.py")
    assert done.status == 0, done.text
    assert left_behind(engine, work.last_run["id"]) == []


def test_nodes_can_be_kept(work: Workspace, engine: docker.DockerClient) -> None:
    work.write("test_k.py", "def test_k(node): assert 0\n")
    done = work.pytest("--image", SCRATCH, "test_k.py", "--keep-node", "on-failure")
    assert "node kept" in done.out
    assert any("certify-demo-container" in name for name in left_behind(engine, work.last_run["id"]))
    assert "certify gc --kept" in done.out
    assert work.certify("gc").status == 0
    assert any("certify-demo-container" in name for name in left_behind(engine, work.last_run["id"]))
    assert work.certify("gc", "--kept").status == 0
    assert left_behind(engine, work.last_run["id"]) == []


def test_a_small_memory_budget_boots_one_after_the_other(work: Workspace) -> None:
    work.write("certify.yaml", "memory_budget: 1GiB\n")
    work.write("test_k.py", "def test_k(node): pass\ndef test_two(node, second_node): pass\n")
    done = work.pytest("--image", SCRATCH, "--image", DEMO + "good", "test_k.py")
    assert done.status == 0, done.text


def test_fixtures_of_a_module_may_use_the_host(work: Workspace) -> None:
    """Existing testinfra suites have module-scoped fixtures that ask for ``host``."""
    work.write(
        "test_m.py",
        "import pytest\n"
        "@pytest.fixture(scope='module')\n"
        "def listing(host): return host.check_output('ls /')\n"
        "def test_1(listing): assert 'web' in listing\n"
        "def test_2(listing, image): assert 'web' in listing\n",
    )
    assert work.pytest("--image", SCRATCH, "test_m.py").status == 0
    assert work.pytest("--image", SCRATCH, "test_m.py", "--isolation", "module").status == 0


def test_each_variant_of_a_destructive_check_gets_its_own_node(work: Workspace) -> None:
    work.write(
        "test_v.py",
        "import pytest\n"
        "def test_before(host): host.run('touch /before')\n"
        "@pytest.mark.destructive\n"
        "@pytest.mark.parametrize('x', [1, 2, 3])\n"
        "def test_v(host, node, x):\n"
        "    assert not node.run('ls /before /gone').ok and not host.file('/gone').exists\n"
        "    host.run('touch /gone')\n"
        "def test_after(host):\n"
        "    assert host.file('/before').exists\n"
        "    assert not host.file('/gone').exists\n",
    )
    done = work.pytest("--image", SCRATCH, "--image", DEMO + "good", "test_v.py")
    assert done.status == 0, done.text
    assert len({c["node"] for c in work.last_run["checks"]}) == 2 + 6
