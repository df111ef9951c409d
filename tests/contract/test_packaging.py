"""The scripts are found from wheel and sdist; the library imports only what it says."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path.relative_to(ROOT / "lua").as_posix() for path in (ROOT / "lua").rglob("*.lua"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build wheel and sdist with the backend that pyproject.toml names."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import sys; from hatchling import build as b; b.build_wheel(sys.argv[1]); b.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True, capture_output=True)
    return folder


def test_the_wheel_carries_the_scripts_and_loads_them(built: Path, tmp_path: Path) -> None:
    """Unpacked elsewhere, the wheel loads every script without the checkout."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    for script in SCRIPTS:
        assert (tmp_path / "coordinator" / "lua" / script).is_file()
    code = (
        "from coordinator.protocol import script\n"
        "print(script.lua_directory())\n"
        "[script.load(name) for name in script.names()]\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, env={"PYTHONPATH": "."}
    )
    assert Path(out.stdout.strip()) == tmp_path / "coordinator" / "lua"


def test_the_sdist_carries_the_scripts(built: Path) -> None:
    """The source archive has lua/ at its top."""
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {f"lua/{script}" for script in SCRIPTS} <= names


def test_the_core_is_free_of_io() -> None:
    """Calls, flows and the keeper import where there is no redis."""
    code = (
        "import sys, types\n"
        "package = types.ModuleType('coordinator')\n"
        "package.__path__ = [sys.argv[1]]\n"
        "sys.modules.update(coordinator=package, redis=None)\n"
        "import coordinator.protocol.clients, coordinator.node, coordinator.node.keeper\n"
    )
    subprocess.run([sys.executable, "-c", code, str(ROOT / "coordinator")], check=True, capture_output=True)
