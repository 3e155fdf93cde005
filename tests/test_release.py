"""``tools/release``: what it refuses, and that two builds of a commit are the same. The build itself is a script."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOL = Path(__file__).parent.parent / "tools" / "release"

BUILD = """\
#!/bin/sh
# python -m build --outdir DIRECTORY .
[ "$1 $2 $3" = "-m build --outdir" ] || exit 1
mkdir -p "$4" bootfw-1.0.0
cp content bootfw-1.0.0/
tar -czf "$4/bootfw-1.0.0.tar.gz" bootfw-1.0.0
[ -e in-each-its-own ] && pwd >>content
cp content "$4/bootfw-1.0.0-py3-none-any.whl"
"""


def git(checkout: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=checkout, check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a version and its tag, and a Python beside it that builds."""
    repository = tmp_path / "checkout"
    (repository / "bootfw").mkdir(parents=True)
    (repository / "tools").mkdir()
    (repository / "bin").mkdir()
    (repository / "bootfw/__init__.py").write_text('__version__ = "1.0.0"\n')
    (repository / "content").write_text("the same\n")
    (repository / ".gitignore").write_text("dist\nbin\n")
    shutil.copy(TOOL, repository / "tools")
    (repository / "bin/python").write_text(BUILD)
    (repository / "bin/python").chmod(0o755)
    git(repository, "init", "--quiet")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message=x")
    git(repository, "tag", "v1.0.0")
    return repository


def release(checkout: Path) -> subprocess.CompletedProcess[str]:
    """Run the tool as the Makefile does, with a path to Python that is relative to the checkout."""
    environment = {**os.environ, "LC_ALL": "C"}
    command = ["tools/release", "bin/python"]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, env=environment, timeout=60)


def test_two_builds_of_a_commit_are_the_same(checkout: Path) -> None:
    completed = release(checkout)
    assert (completed.returncode, completed.stderr) == (0, "")
    sums = (checkout / "dist/SHA256SUMS").read_text()
    assert [line.split()[1] for line in sums.splitlines()] == ["bootfw-1.0.0-py3-none-any.whl", "bootfw-1.0.0.tar.gz"]
    shutil.rmtree(checkout / "dist")
    assert release(checkout).returncode == 0
    assert (checkout / "dist/SHA256SUMS").read_text() == sums


def test_builds_that_differ_are_refused(checkout: Path) -> None:
    (checkout / "in-each-its-own").touch()
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message=y")
    git(checkout, "tag", "--force", "v1.0.0")
    completed = release(checkout)
    assert completed.returncode == 1
    assert "two builds of the same commit differ" in completed.stderr
    assert not (checkout / "dist").exists()


def test_a_checkout_with_changes_is_refused(checkout: Path) -> None:
    (checkout / "content").write_text("changed\n")
    assert "the checkout has changes" in release(checkout).stderr


def test_a_tag_of_another_version_is_refused(checkout: Path) -> None:
    git(checkout, "tag", "--delete", "v1.0.0")
    git(checkout, "tag", "v1.0.1")
    assert "the tag of this commit has to be v1.0.0; it has v1.0.1" in release(checkout).stderr
