"""Install built wheels as a user would, and use them: the core alone, then each plugin alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMOKE = Path(__file__).parent


def run(*command: str | Path, cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([str(part) for part in command], cwd=cwd, env=environment, check=True)


def main() -> None:
    plugins = sorted(path.name for path in (ROOT / "plugins").iterdir())
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        dist = work / "dist"
        for project in [ROOT, *(ROOT / "plugins" / name for name in plugins)]:
            # The build's own environment is that of the tests, which has what a build needs.
            build = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
            run(*build, "--outdir", dist, project, cwd=work)
        venv.create(work / "venv", with_pip=True)
        python = work / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        install = [*pip, "install", "--no-compile", "--find-links", dist]
        install += ["-c", ROOT / "constraints.txt"]

        print("core alone", flush=True)
        run(*install, "kappacore", cwd=work)
        run(python, SMOKE / "smoke_core.py", cwd=work)
        for name in plugins:
            distribution = name.replace("_", "-")
            extra = name.removeprefix("kappa_")
            print(f"core and {distribution}", flush=True)
            run(*install, f"kappacore[{extra}]", cwd=work)
            run(python, SMOKE / f"smoke_{name}.py", cwd=work)
            run(*pip, "uninstall", "--yes", distribution, cwd=work)


if __name__ == "__main__":
    main()
