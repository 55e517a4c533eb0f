"""What the wheel and the source distribution carry."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = sorted(path.stem for path in ROOT.glob("src/hybridcore/_native/*.pyx"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (ROOT / "CMakeLists.txt").exists(), reason="needs the source tree"),
]


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    directory = tmp_path_factory.mktemp("dist")
    build = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", directory, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    return directory


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> list[str]:
    """Names of the files in the wheel."""
    (path,) = distributions.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


@pytest.fixture(scope="session")
def sdist(distributions: Path) -> list[str]:
    """Names of the files in the source distribution, below its one directory."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        return [name.partition("/")[2] for name in archive.getnames()]


def test_wheel_carries_the_package_and_nothing_else(wheel: list[str]) -> None:
    """Only the package and its metadata: no tests, no benchmarks, no stray top level."""
    top = {name.partition("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"hybridcore"}


def test_wheel_carries_no_sources_of_native_modules(wheel: list[str]) -> None:
    """Cython and C sources, and what the build left around, stay out."""
    unwanted = (".pyx", ".pxd", ".pxi", ".c", ".h", ".cmake", ".pyc")
    assert [name for name in wheel if name.endswith(unwanted)] == []


@pytest.mark.parametrize("module", NATIVE)
def test_wheel_carries_each_native_module_and_its_stub(wheel: list[str], module: str) -> None:
    """Every .pyx becomes one shared object with a stub beside it."""
    files = [name for name in wheel if name.startswith(f"hybridcore/_native/{module}.")]
    assert sorted(Path(name).suffix for name in files) in ([".pyi", ".so"], [".pyd", ".pyi"])


def test_wheel_carries_every_file_of_the_package(wheel: list[str]) -> None:
    """Python modules, stubs, the typing marker and data files are all there."""
    listed = subprocess.run(
        ["git", "ls-files", "hybridcore"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    wanted = listed or [
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("hybridcore/**/*.py*")
    ]
    assert "hybridcore/py.typed" in wheel
    assert set(wanted) - set(wheel) == set()


def test_wheel_carries_the_licence(wheel: list[str]) -> None:
    """The licence travels with every copy, and so do those of what comes along."""
    for name in ("LICENSE", "hybridcore/web/static/LICENSE.uPlot"):
        assert any(file.endswith(f".dist-info/licenses/{name}") for file in wheel)


def test_sdist_carries_what_a_build_and_a_test_run_need(sdist: list[str]) -> None:
    """The wheel above was built from it; tests, documentation and benchmarks come along."""
    wanted = {"CMakeLists.txt", "LICENSE", "README.md", "check", "docs/conf.py"}
    wanted |= {"bench/peers.py", "tests/conftest.py", "pyproject.toml"}
    wanted |= {f"src/hybridcore/_native/{module}.pyx" for module in NATIVE}
    assert wanted - set(sdist) == set()


def test_sdist_carries_no_build_results(sdist: list[str]) -> None:
    """Nothing that was made on this machine."""
    made = [name for name in sdist if name.endswith((".so", ".pyd", ".pyc", ".html"))]
    assert [name for name in made if not name.startswith("hybridcore/web/static/")] == []
