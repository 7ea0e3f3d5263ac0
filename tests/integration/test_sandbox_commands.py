"""Commands as tools: a scratch copy of the run's files, what comes back from it, and what does not."""

import asyncio
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.sandboxes import a_folder, survey
from tests.unit.toolbox.parts import MemoryBlobs, a_branch, text_of, use
from toolbox.errors import FilesAway, ToolError
from toolbox.jail.folder import PREFIX, own_folder, sweep
from toolbox.jail.place import discard
from toolbox.sandbox import Sandbox
from toolbox.scratch import collect, scratch
from toolbox.shell import run_check, run_command
from toolbox.tool import Output
from toolbox.tree import FILE_BYTES_MAX, Branch, File


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    held = [trial.sandbox for trial in survey().values() if trial.sandbox]
    if not held:
        pytest.skip("no sandbox holds on this host")
    return held[0]


@pytest.fixture
def root() -> Iterator[Path]:
    """A place for scratch copies that no other test uses, and that other users can reach."""
    with a_folder() as made:
        made.chmod(0o711)
        yield made


async def shell(sandbox: Sandbox, branch: Branch, script: str, /, root: Path | None = None, **arguments: Any) -> Output:
    return await use(
        run_command, branch, {"sandbox": sandbox, "scratch_root": root}, argv=["sh", "-c", script], **arguments
    )


async def test_a_command_changes_the_branch(sandbox: Sandbox, root: Path) -> None:
    branch = await a_branch({"app.py": "print('hi')\n", "old": "x", "kept": "y"})
    script = "python3 app.py; rm old; mkdir -p bin && echo 'exit 4' > bin/go && chmod 700 bin/go"
    output = await shell(sandbox, branch, script, root)
    assert output.text == "exit code 0\nhi\n"
    assert output.data == output.data | {"exit_code": 0, "timed_out": False, "truncated": False, "killed": ""}
    assert list(branch.changes()) == ["bin/go", "old"]
    entry = branch.entry("bin/go")
    assert entry is not None
    assert entry.mode == 0o755
    assert (await use(run_command, branch, {"sandbox": sandbox}, argv=["sh", "./bin/go"])).text == "exit code 4\n"
    assert not list(root.iterdir())


async def test_caches_and_ignored_files_stay_out(sandbox: Sandbox) -> None:
    branch = await a_branch(
        {"m.py": "x = 1\n", ".callboardignore": "build/\n*.log\n", "build/kept.txt": "1", "old.log": "2"}
    )
    await shell(
        sandbox,
        branch,
        "unset PYTHONDONTWRITEBYTECODE; python3 -c 'import m'; rm build/kept.txt old.log; mkdir .git; ln -s / .git/root; "
        "echo > build/out; echo > new.log; echo > new.txt",
    )
    assert list(branch.changes()) == ["new.txt"]


async def test_a_failing_command_keeps_what_it_wrote(sandbox: Sandbox) -> None:
    branch = await a_branch()
    output = await shell(sandbox, branch, "echo made > made; echo broken >&2; exit 2")
    assert (output.text, output.data["exit_code"]) == ("exit code 2\nbroken\n", 2)
    assert await text_of(branch, "made") == "made\n"


async def test_a_command_that_runs_out_of_time_says_so(sandbox: Sandbox) -> None:
    output = await shell(sandbox, await a_branch(), "echo begun; sleep 60", seconds=1)
    assert output.text == "timed out after 1 s\nbegun\n"
    assert output.data["timed_out"] is True


async def test_long_output_keeps_its_end(sandbox: Sandbox) -> None:
    output = await shell(sandbox, await a_branch(), "seq 1 100000; echo the end")
    assert "1\n2\n3\n" in output.text
    assert "bytes left out" in output.text
    assert output.text.endswith("100000\nthe end\n")
    assert "[cut here" not in output.text


async def test_output_that_is_no_text_is_made_one(sandbox: Sandbox) -> None:
    output = await shell(sandbox, await a_branch(), "printf 'a\\000b\\377c'")
    assert output.text == "exit code 0\na\ufffdb\ufffdc"


async def test_a_write_outside_the_steps_paths_keeps_nothing(sandbox: Sandbox) -> None:
    branch = await a_branch(writes=("src/",))
    with pytest.raises(ToolError, match="may write only src/") as failure:
        await shell(sandbox, branch, "mkdir src; echo > src/fine; echo > elsewhere; echo said")
    assert failure.value.code == "outside_writes"
    assert "said" in str(failure.value)
    assert branch.changes() == {}


async def test_a_check_and_a_reader_change_nothing(sandbox: Sandbox) -> None:
    branch = await a_branch({"a": "1"}, writes=("nowhere/",))
    output = await use(run_check, branch, {"sandbox": sandbox}, argv=["sh", "-c", "echo 2 > a; cat a; exit 1"])
    assert (output.text, output.data["exit_code"]) == ("exit code 1\n2\n", 1)
    assert branch.changes() == {}
    reader = await a_branch({"a": "1"}, readonly=True)
    assert (await shell(sandbox, reader, "echo 3 > a; cat a")).text == "exit code 0\n3\n"
    assert reader.changes() == {}


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("ln -s /etc/passwd stolen", "not_a_file", "'stolen' is a symbolic link"),
        ("ln -s .. up", "not_a_file", "'up' is a symbolic link"),
        ("mkfifo pipe", "not_a_file", "'pipe' is a FIFO"),
        ("echo > one; ln one two", "not_a_file", "second name"),
        ("ln -s /etc/shadow .callboardignore", "not_a_file", "'.callboardignore' is a symbolic link"),
        ("head -c 9000000 /dev/zero > big", "too_large", "big: 9000000 bytes"),
        ("for n in 1 2 3 4 5 6 7 8 9; do head -c 8000000 /dev/zero > big$n; done", "too_large", "67108864 bytes"),
        ("truncate -s 60M sparse", "too_large", "sparse: 62914560 bytes"),
        ("seq 1001 | xargs touch", "too_many_paths", "more than 1000 files"),
        ("mkdir -p $(printf 'd/%.0s' $(seq 1 80))", "too_deep", "more than 64"),
        ("touch \"$(printf 'a\\nb')\"", "bad_path", "control"),
        ("touch \"$(printf 'a\\377b')\"", "bad_path", "invisible"),
        ("printf '!x' > .callboardignore", "bad_ignore_file", "none with '!'"),
    ],
)
async def test_what_is_no_plain_file_is_refused_and_nothing_kept(
    sandbox: Sandbox, script: str, code: str, words: str
) -> None:
    branch = await a_branch({"a": "1"})
    with pytest.raises(ToolError) as failure:
        await shell(sandbox, branch, f"echo > fine; {script}")
    assert failure.value.code == code
    assert words in str(failure.value)
    assert branch.changes() == {}


async def test_cancelling_throws_the_scratch_copy_away(sandbox: Sandbox, root: Path) -> None:
    branch = await a_branch({"a": "1"})
    running = asyncio.ensure_future(shell(sandbox, branch, "echo 2 > a; echo > up; sleep 600", root, seconds=60))
    async with asyncio.timeout(10):
        while not list(root.glob("*/up")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # another process makes it
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not list(root.iterdir())
    assert branch.changes() == {}


async def test_arguments_with_nul_are_refused(sandbox: Sandbox) -> None:
    with pytest.raises(ToolError, match="NUL"):
        await use(run_command, await a_branch(), {"sandbox": sandbox}, argv=["echo", "a\0b"])


async def test_files_swapped_for_links_while_they_are_read_are_never_followed() -> None:
    """In life all processes are gone by then; the descriptors hold even if one is not."""
    with a_folder() as outside, a_folder() as folder:
        secret = outside / "secret"
        secret.write_text("secret")
        (outside / "x").write_text("secret")
        (folder / "sub").mkdir()
        stop = threading.Event()

        def swap() -> None:
            while not stop.is_set():
                for target, link, plain in ((secret, folder / "f", True), (outside, folder / "sub2", False)):
                    new = folder / ".new"
                    new.symlink_to(target)
                    new.replace(link)
                    link.unlink()
                    link.write_text("own") if plain else link.mkdir()
                    link.unlink() if plain else link.rmdir()

        swapping = threading.Thread(target=swap)
        swapping.start()
        blobs = MemoryBlobs()
        try:
            for _ in range(1500):
                try:
                    await collect(folder, Branch({}, blobs))
                except (ToolError, FileNotFoundError, NotADirectoryError):
                    continue
        finally:
            stop.set()
            swapping.join()
        assert b"secret" not in blobs.kept.values()


async def test_a_file_its_owner_may_not_read_is_refused() -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads everything")
    branch = await a_branch({"a": "1"})
    async with scratch(branch) as folder:
        (folder / "locked").write_text("x")
        (folder / "locked").chmod(0)
        with pytest.raises(ToolError, match="chmod it first"):
            await collect(folder, branch)


async def test_a_lost_blob_is_no_outcome() -> None:
    with pytest.raises(FilesAway):
        async with scratch(Branch({"a": File("0" * 64, 0o644, 1)}, MemoryBlobs())):
            pass


async def test_a_file_at_the_limit_goes_through() -> None:
    branch = await a_branch()
    async with scratch(branch) as folder:
        (folder / "big").write_bytes(bytes(FILE_BYTES_MAX))
        await collect(folder, branch)
    entry = branch.entry("big")
    assert entry is not None
    assert entry.size == FILE_BYTES_MAX


def test_any_folder_is_thrown_away() -> None:
    outside = Path(tempfile.mkdtemp(prefix="callboard-test-"))
    (outside / "kept").write_text("kept")
    folder = Path(tempfile.mkdtemp(prefix="callboard-test-"))
    opened = os.open(folder, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 200, dir_fd=opened)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=opened)
        os.close(opened)
        opened = deeper
    os.close(opened)
    (folder / "link").symlink_to(outside)
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(str(folder / "socket"))
    (folder / "closed").mkdir()
    (folder / "closed" / "file").write_text("x")
    (folder / "closed").chmod(0)
    folder.chmod(0o500)
    try:
        discard(folder)
        assert not folder.exists()
        assert (outside / "kept").read_text() == "kept"
    finally:
        discard(outside)


async def test_what_a_killed_worker_left_is_swept_and_the_living_stay() -> None:
    with a_folder() as root:
        left, other = root / f"{PREFIX}left", root / "callboard-other"
        for folder in (left, other):
            folder.mkdir()
            (folder / "file").write_text("x")
        async with own_folder(root) as living:
            sweep(root)
            assert left.exists(), "it may be so new that its lock is still to come"
            sweep(root, settled_seconds=0)
            assert {path.name for path in root.iterdir()} == {other.name, living.name}
        assert {path.name for path in root.iterdir()} == {other.name}
