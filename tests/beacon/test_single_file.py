"""beacon.pyz: one file that needs nothing but an old Python, and the same bytes whoever makes it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from beacon_lines import OURS, RUST, outcome, wanted
from beacons import Beacon, Server, pythons
from docs_examples import PACKAGE, ROOT
from mdns_responder import lab, message, responder

from pytest_dispatch.beacon.archive import archive

OLDEST = (3, 6)  # that the file says it runs on
FOLDER = PACKAGE / "beacon"
MAKER = FOLDER / "archive.py"
ALONE = ("-I", "-S")  # without what is installed, and without anything that the environment says


@pytest.fixture(scope="module")
def here() -> dict[tuple[int, int], str]:
    """The versions of Python that there are to try."""
    return pythons()


@pytest.fixture
def single_file(tmp_path: Path) -> str:
    path = tmp_path / "beacon.pyz"
    path.write_bytes(archive())
    return str(path)


@pytest.mark.usefixtures("alone_on_mdns")
@pytest.mark.draw(1, of="older Pythons")
def test_it_runs_on_every_python_that_is_here(
    here: dict[tuple[int, int], str], beacon: Beacon, server: Server, single_file: str, subtests: pytest.Subtests
) -> None:
    """Boots by mDNS, and reports to the same server."""
    records = lab("dispatch-1a2b", server.port, "127.0.0.1")
    for version, python in here.items():
        with subtests.test(python=version):
            alone = beacon._replace(command=(python, *ALONE, single_file))
            server.calls.clear()
            with responder(lambda _name, _kind, number: [message(*records, number=number)]):
                assert alone("boot").returncode == 0
            assert alone("report", "--title", "größer", "--body", single_file).returncode == 0
            assert [(call.method, call.path) for call in server.calls] == [("POST", "/boot"), ("PUT", "/boot")]
            report = json.loads(server.calls[-1].body)
            assert (report["title"], report["body"][:2]) == ("größer", "#!")


#: Those that argparse has not always read in the same way.
TELLING = (
    *("", "boot --", "help boot", "help nope", "report", "report -t -x", "report -t T -z", "report -t T -t U -h"),
    *("report -tT", "report -t=T", "report -t==T", "report -tT=x", "report -t -", "report --title=-x", "report -t-x"),
    *("report -t T --", "report -t -5", "report -t '-x y'", "report -ht", "report -mM -ame -tT -a you -bfile"),
)


@pytest.mark.draw(1, of="older Pythons")
def test_command_lines_mean_the_same_on_the_oldest_python_that_is_here(
    here: dict[tuple[int, int], str], beacon: Beacon, server: Server, single_file: str, tmp_path: Path
) -> None:
    alone = beacon._replace(command=(next(iter(here.values())), *ALONE, single_file))
    came = {line: outcome(line, alone, server, tmp_path) for line in TELLING}
    assert came == {line: wanted({**RUST, **OURS}[line]) for line in TELLING}


def test_it_needs_no_newer_python_than_it_says() -> None:
    """Also where the oldest is not installed: by its syntax, and by what it uses of the library."""
    vermin = (sys.executable, "-c", "import vermin; vermin.main()")
    command = [*vermin, "--no-tips", f"-t={'.'.join(map(str, OLDEST))}", str(FOLDER)]
    looked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert looked.returncode == 0, looked.stdout
    assert "Minimum required versions: 3.6" in looked.stdout.splitlines()


def test_a_python_that_is_too_old_is_told(single_file: str) -> None:
    older = "import runpy, sys; sys.version_info = (3, 5, 2); sys.argv[:] = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    ran = subprocess.run([sys.executable, *ALONE, "-c", older, single_file], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, b"beacon: expected Python 3.6 or newer, this is 3.5\n")
    with zipfile.ZipFile(single_file) as inside:
        assert f"sys.version_info < {OLDEST}" in inside.read("__main__.py").decode()


LOADED = """
import sys
before = set(sys.modules)
{path}
from {package}.command import main
code = main()
new = [sys.modules[name] for name in set(sys.modules) - before]
for module in new:
    print(module.__name__, getattr(module, "__file__", None) or "built in")
sys.exit(code)
"""


@pytest.mark.parametrize("way", ["installed", "single file"])
def test_nothing_else_of_ours_is_loaded_and_nothing_that_is_not_pythons(
    way: str, beacon: Beacon, server: Server, single_file: str
) -> None:
    installed = way == "installed"
    package = "pytest_dispatch.beacon" if installed else "beacon"
    script = LOADED.format(package=package, path="" if installed else f"sys.path.insert(0, {single_file!r})")
    command = (sys.executable, *(() if installed else ALONE), "-c", script)
    ran = beacon._replace(command=command)("report", "--title", "T", "--url", server.url())
    assert ran.returncode == 0, ran.stderr
    loaded = dict(line.split(" ", 1) for line in ran.stdout.decode().splitlines())
    ours = {name for name, where in loaded.items() if where.startswith((str(PACKAGE), single_file))}
    assert ours - {"pytest_dispatch"} == {name for name in loaded if name.startswith(package)}
    assert f"{package}.delivery" in ours
    assert {name.partition(".")[0] for name in loaded.keys() - ours} <= sys.stdlib_module_names
    heavy = {"asyncio", "inspect", "dataclasses", "ctypes", "xml", "sqlite3"}
    assert not loaded.keys() & heavy


def test_whoever_makes_it_makes_the_same_bytes(
    here: dict[tuple[int, int], str], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """By another Python, from other files at another place, with other times and modes."""
    copy = tmp_path / "copy"
    shutil.copytree(FOLDER, copy, copy_function=shutil.copyfile)
    for path in copy.glob("*.py"):
        path.chmod(0o600)
    for version, python in here.items():
        with subtests.test(python=version):
            made = tmp_path / f"{version[1]}" / "beacon.pyz"
            subprocess.run([python, *ALONE, copy / "archive.py", made], check=True, capture_output=True)
            assert made.read_bytes() == archive()
            assert made.stat().st_mode & 0o111, "it can be started"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "expected where to write it, as in: archive.py beacon.pyz"),
        (("a", "b"), "expected where to write it, as in: archive.py beacon.pyz"),
        (("/dev/null/x.pyz",), "cannot make beacon.pyz: /dev/null: File exists"),
        (("x.pyz",), "cannot make beacon.pyz: {folder}: no sources here"),
    ],
)
def test_what_cannot_be_made_is_told(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    """The last where the maker stands alone, as in an installation of compiled files."""
    maker = shutil.copy(MAKER, tmp_path) if arguments == ("x.pyz",) else MAKER
    ran = subprocess.run([sys.executable, maker, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, f"{words.format(folder=tmp_path)}\n")


def test_it_is_small() -> None:
    assert len(archive()) < 64 * 1024


@pytest.mark.skipif(not (ROOT / "src").exists(), reason="the sources are not here: see the job 'wheel'")
def test_make_beacon_makes_what_the_lab_serves(tmp_path: Path) -> None:
    made = tmp_path / "out" / "beacon.pyz"
    command = ["make", "--silent", "-C", str(ROOT), "beacon", f"BEACON={made}", f"PYTHON={sys.executable}"]
    subprocess.run(command, check=True, capture_output=True)
    assert made.read_bytes() == archive()
