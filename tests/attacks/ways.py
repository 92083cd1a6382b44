"""Ways round a check: what a developer who wants a green writes and types."""

from __future__ import annotations

#: What is written, what pytest is given besides, and a word of the reason. None of it may ever end in a yes.
WAYS = {
    "one check by id": ({}, ["checks/test_good.py::test_digest"], "deselected"),
    "one file": ({}, ["checks/test_good.py", "--suite", "./checks"], ""),
    "ignore a file": ({}, ["--ignore=checks/test_bad.py"], "deselected"),
    "deselect": ({}, ["--deselect", "checks.test_bad::test_user"], "deselected"),
    "deselect by a keyword": ({}, ["-k", "not user"], "deselected"),
    "one parameter of a check": ({}, ["-k", "test_number and 1"], "deselected"),
    "a mark nobody has": ({}, ["-m", "not slow", "-k", "digest"], "deselected"),
    "other names for checks": ({}, ["-o", "python_functions=test_d*"], ""),
    "other names for files": ({}, ["-o", "python_files=test_good.py"], ""),
    "an ini file": ({"pytest.ini": "[pytest]\npython_files = test_good.py\n"}, [], ""),
    "options in an ini file": ({"pytest.ini": "[pytest]\naddopts = -k digest\n"}, [], ""),
    "options in the environment": ({}, ["PYTEST_ADDOPTS=-k digest"], ""),
    "a conftest that drops checks": (
        {"conftest.py": "def pytest_collection_modifyitems(items):\n    items[:] = [i for i in items if 'user' not in i.name]\n"},
        [], "",
    ),
    "a conftest that says so to pytest": (
        {"conftest.py": "def pytest_collection_modifyitems(config, items):\n"
         "    gone = [i for i in items if 'user' in i.name]\n    items[:] = [i for i in items if i not in gone]\n"
         "    config.hook.pytest_deselected(items=gone)\n"},
        [], "",
    ),
    "a conftest that expects failure": (
        {"conftest.py": "import pytest\ndef pytest_collection_modifyitems(items):\n    [i.add_marker(pytest.mark.xfail) for i in items]\n"},
        [], "failed",
    ),
    "a conftest that skips": (
        {"conftest.py": "import pytest\ndef pytest_collection_modifyitems(items):\n"
         "    [i.add_marker(pytest.mark.skip(reason='later')) for i in items if 'user' in i.name]\n"},
        [], "",
    ),
    "a conftest that skips at run time": (
        {"conftest.py": "import pytest\ndef pytest_runtest_setup(item):\n    'user' in item.name and pytest.skip('later')\n"},
        [], "",
    ),
    "a conftest that ignores a file": (
        {"conftest.py": "def pytest_ignore_collect(collection_path):\n    return True if collection_path.name == 'test_bad.py' else None\n"},
        [], "",
    ),
    "a conftest that collects nothing of a file": (
        {"conftest.py": "collect_ignore = ['checks/test_bad.py']\n"}, [], "",
    ),
    "a conftest that turns failures into passes": (
        {"conftest.py": "import pytest\n@pytest.hookimpl(wrapper=True)\ndef pytest_runtest_makereport(item, call):\n"
         "    report = yield\n    report.outcome = 'passed'\n    report.longrepr = None\n    return report\n"},
        [], "took part",
    ),
    "a conftest that calls nothing": (
        {"conftest.py": "def pytest_pyfunc_call(pyfuncitem):\n    return True\n"}, [], "took part",
    ),
    "a conftest that runs no protocol": (
        {"conftest.py": "def pytest_runtest_protocol(item):\n    return True\n"}, [], "",
    ),
    "a conftest with an image of its own": (
        {"conftest.py": "import pytest, types\n@pytest.fixture\ndef image():\n"
         "    return types.SimpleNamespace(digest='sha256:', config=types.SimpleNamespace(user='app'))\n"},
        [], "took part",
    ),
    "a conftest that names checks anew": (
        {"conftest.py": "def pytest_collection_modifyitems(items):\n"
         "    good = next(i for i in items if 'digest' in i.name)\n"
         "    for i in items:\n        if 'user' in i.name:\n            i._nodeid, i.obj = i.nodeid, good.obj\n"},
        [], "took part",
    ),
    "a conftest that doubles a good check under a bad one's name": (
        {"conftest.py": "import copy\ndef pytest_collection_modifyitems(items):\n"
         "    bad = next(i for i in items if 'user' in i.name)\n"
         "    good = copy.copy(next(i for i in items if 'digest' in i.name))\n"
         "    good._nodeid = bad.nodeid\n    items[items.index(bad)] = good\n"},
        [], "",
    ),
    "a conftest that sets the exit status": (
        {"conftest.py": "import pytest\n@pytest.hookimpl(trylast=True)\ndef pytest_sessionfinish(session):\n    session.exitstatus = 0\n"},
        [], "failed",
    ),
    "a conftest that makes asserts true": (
        {"conftest.py": "import certify.images.candidate as c\nc.ImageConfig.user = property(lambda s: 'app', lambda s, v: None)\n"}, [], "took part",
    ),
    "a plugin of the project": (
        {"evil.py": "def pytest_pyfunc_call(pyfuncitem):\n    return True\n"}, ["-p", "evil", "PYTHONPATH=."], "took part",
    ),
    "a plugin in the environment": (
        {"evil.py": "def pytest_pyfunc_call(pyfuncitem):\n    return True\n"},
        ["PYTEST_PLUGINS=evil", "PYTHONPATH=."], "took part",
    ),
    "fixtures that an ini file uses": (
        {"pytest.ini": "[pytest]\nusefixtures = fine\n",
         "conftest.py": "import pytest\n@pytest.fixture\ndef fine(request, monkeypatch):\n"
         "    monkeypatch.setattr(request.node, 'obj', lambda image=None, number=None: None)\n"},
        [], "took part",
    ),
    "stopping before the failure": ({"checks/test_a.py": "import os\ndef test_end(image): os._exit(0)\n"}, ["LOCK"], ""),
}  # fmt: skip
