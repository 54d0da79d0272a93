"""Build what is published, and use it as a user would: the core alone, then each plugin alone.

``check.py [DIST]`` keeps the sdists, and the wheels that are built from them, in the folder DIST.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).parent
LOCK = ROOT / "requirements.lock"


def run(*command: str | Path, cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=True)


def locked() -> dict[str, str]:
    """Return the version that the lock names for each package, on this Python."""
    lines = LOCK.read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if not line.startswith("#")]
    here = [each for each in found if each.marker is None or each.marker.evaluate()]
    return {each.name: str(each.specifier).removeprefix("==") for each in here}


def check_versions(site: Path, own: list[str]) -> None:
    """Fail if an environment holds what the lock does not name.

    Args:
        site: its ``site-packages``.
        own: names of this repository's distributions.
    """
    versions = locked()
    strange = [
        f"{name} {package.version} (the lock: {versions.get(name, 'nothing')})"
        for package in importlib.metadata.distributions(path=[str(site)])
        if (name := package.name.lower().replace("_", "-")) not in own
        and package.version.partition("+")[0] != versions.get(name)
    ]
    if strange:
        sys.exit(f"not what {LOCK.name} names: {', '.join(strange)}. Run `make lock`.")


def lend(name: str, site: Path) -> None:
    """Let an environment have a distribution of this one, as if it was installed there.

    Unpacking and compiling torch takes most of the time of this check.
    """
    found = importlib.metadata.distribution(name)
    for top in {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}:
        (site / top).symlink_to(Path(str(found.locate_file(top))))


def check_required(name: str, site: Path) -> None:
    """Fail if the core would not have brought what it was lent."""
    (core,) = importlib.metadata.distributions(name="kappacore", path=[str(site)])
    if name not in [Requirement(line).name for line in core.requires or []]:
        sys.exit(f"kappacore does not require {name}.")


def main() -> None:
    plugins = sorted(path.name for path in (ROOT / "plugins").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        dist = Path(sys.argv[1]).resolve() if sys.argv[1:] else work / "dist"
        for project in [ROOT, *(ROOT / "plugins" / name for name in plugins)]:
            # The build's own environment is that of the tests, which has what a build needs.
            build = [sys.executable, "-m", "build", "--no-isolation"]
            build += [] if sys.argv[1:] else ["--wheel"]
            run(*build, "--outdir", dist, project, cwd=work)
        venv.create(work / "venv")
        python = work / "venv" / "bin" / "python"
        (site,) = (work / "venv" / "lib").glob("python*/site-packages")
        if not sys.argv[1:]:  # what is to be published is installed with all that it brings
            lend("torch", site)
        pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
        install = [*pip, "install", "--quiet", "--no-compile", "--find-links", dist, "-c", LOCK]

        print("core alone", flush=True)
        run(*install, "kappacore", cwd=work)
        check_required("torch", site)
        run(python, SMOKE / "smoke_core.py", cwd=work)
        for name in plugins:
            distribution = name.replace("_", "-")
            extra = name.removeprefix("kappa_")
            print(f"core and {distribution}", flush=True)
            run(*install, f"kappacore[{extra}]", cwd=work)
            run(python, SMOKE / f"smoke_{name}.py", cwd=work)
            check_versions(site, ["kappacore", *(p.replace("_", "-") for p in plugins)])
            run(*pip, "uninstall", "--quiet", "--yes", distribution, cwd=work)


if __name__ == "__main__":
    main()
