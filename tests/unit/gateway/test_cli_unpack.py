"""An archive of a run's files is written below its folder, and nowhere else."""

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from gateway.commands.artifacts import is_free, unpack
from gateway.commands.exits import Quit


def archive(*entries: tuple[str, bytes, int]) -> bytes:
    made = BytesIO()
    with ZipFile(made, "w") as file:
        for name, content, mode in entries:
            info = ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, content)
    return made.getvalue()


def test_files_come_out_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    written = unpack(archive(("a/b.py", b"x", 0o644), ("run.sh", b"y", 0o755)), folder)
    assert [path.relative_to(folder).as_posix() for path in written] == ["a/b.py", "run.sh"]
    assert (folder / "a/b.py").read_bytes() == b"x"
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "a/b.py").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "C:/evil", "a/\x1b[2J"])
def test_a_path_that_would_escape_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "new"
    with pytest.raises(Quit, match="not written"):
        unpack(archive(("good", b"x", 0o644), (name, b"x", 0o644)), folder)
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / "out").symlink_to(tmp_path)
    with pytest.raises(Quit, match="link"):
        unpack(archive(("out/evil", b"x", 0o644)), folder)
    assert not (tmp_path / "evil").exists()


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    with pytest.raises(Quit, match="no archive"):
        unpack(b"hello", tmp_path)


def test_only_an_empty_folder_is_free(tmp_path: Path) -> None:
    assert is_free(tmp_path)
    assert is_free(tmp_path / "new")
    (tmp_path / "file").touch()
    assert not is_free(tmp_path)
    assert not is_free(tmp_path / "file")
