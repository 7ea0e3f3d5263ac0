"""Paths and globs: what may name a file, and which files a pattern means."""

import pytest

from toolbox.errors import ToolError
from toolbox.globs import matches
from toolbox.ignore import ignored
from toolbox.paths import lies_in
from toolbox.tree import check_path


@pytest.mark.parametrize("path", ["a", "src/app.py", "über/naïve.md", "with space.txt", "a" * 255, "..a/b..", "-rf"])
def test_a_plain_relative_path_stays_as_it_is(path: str) -> None:
    assert check_path(path) == path


def test_a_leading_dot_folder_is_taken_off() -> None:
    assert check_path("./src/./app.py") == "src/app.py"


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "names no file"),
        (".", "names no file"),
        ("/etc/passwd", "absolute"),
        ("/proc/self/root", "absolute"),
        ("../x", "'..'"),
        ("a/../../b", "'..'"),
        ("a/..", "'..'"),
        ("~/x", "'~'"),
        ("~root", "'~'"),
        ("a//b", "empty part"),
        ("a/", "empty part"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\u202eb", "invisible"),
        ("a\u200bb", "invisible"),
        ("a\ud800b", "invisible"),
        ("a" * 256, "255 bytes"),
        ("é" * 128, "255 bytes"),
        ("a/" * 512 + "a", "1024 bytes"),
        (".git/hooks/pre-commit", "'.git'"),
        ("sub/.git/config", "'.git'"),
    ],
)
def test_a_path_that_breaks_a_rule_is_refused_with_the_rule(path: str, rule: str) -> None:
    with pytest.raises(ToolError, match=rule) as refusal:
        check_path(path)
    assert refusal.value.code == "bad_path"
    str(refusal.value).encode("utf-8")


def test_a_folder_does_not_hold_its_prefix_twin() -> None:
    assert lies_in("src/app.py", "src")
    assert lies_in("src/app.py", "src/")
    assert lies_in("src", "src")
    assert not lies_in("src-evil/app.py", "src")


@pytest.mark.parametrize(
    ("path", "glob", "fits"),
    [
        ("a.py", "*.py", True),
        ("src/deep/a.py", "*.py", True),
        ("src/a.py", "src/*.py", True),
        ("src/deep/a.py", "src/*.py", False),
        ("src/deep/a.py", "src/**/*.py", True),
        ("src/a.py", "src/**/*.py", True),
        ("src/a.py", "**", True),
        ("src/a.py", "src/**", True),
        ("src", "src/**", True),
        ("a.py", "./*.py", True),
        ("src/a.py", "./*.py", False),
        ("src/a.py", "src", False),
        ("src/b1.py", "src/b[0-9].py", True),
        ("a/b/c/d", "a/**/d", True),
        ("a/b/c/d", "a/**/c", False),
    ],
)
def test_globs(path: str, glob: str, fits: bool) -> None:
    assert matches(path, glob) is fits


def test_a_glob_made_to_take_for_ever_is_answered_at_once() -> None:
    assert not matches("/".join("a" * 50 for _ in range(15)), "**/" * 40 + "*a" * 60 + "b")


def test_an_endless_glob_is_refused() -> None:
    with pytest.raises(ToolError, match="256"):
        matches("a", "*" * 257)


def test_caches_and_what_the_ignore_file_names_are_left_out() -> None:
    left_out = ignored("# comment\n\n/build\nnode_modules/\ndocs/*.tmp\n")
    assert [
        path
        for path in (
            "a.py",
            "__pycache__/a.pyc",
            "src/__pycache__/x",
            "src/a.pyc",
            ".git/config",
            "build/out",
            "src/build/out",
            "web/node_modules/x/y.js",
            "docs/a.tmp",
            "docs/sub/a.tmp",
        )
        if not left_out(path)
    ] == ["a.py", "src/build/out", "docs/sub/a.tmp"]


def test_an_ignore_file_that_takes_back_is_refused() -> None:
    with pytest.raises(ToolError, match="callboardignore"):
        ignored("!keep.pyc")
