"""What a command may do in each tier, and what of it is left afterwards."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.integration.sandboxes import RUNGS, a_folder, alive, jail_of, run, shown, survey
from toolbox.errors import ToolError
from toolbox.jail.jail import Jail
from toolbox.sandbox import describe, probe

SERVER_TEST = """
import http.server, multiprocessing, socket, threading, unittest, urllib.request

class Requests(unittest.TestCase):
    def test_a_server_answers(self):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for host in ("127.0.0.1", "localhost"):
                with urllib.request.urlopen(f"http://{host}:{server.server_port}/test_app.py") as answer:
                    self.assertIn(b"Requests", answer.read())
            server.shutdown()

    def test_processes_work_together(self):
        with multiprocessing.Pool(2) as pool:
            self.assertEqual(pool.map(abs, [1, -2]), [1, 2])
"""


@pytest.fixture(params=RUNGS)
def jail(request: pytest.FixtureRequest) -> Jail:
    return jail_of(request.param)


@pytest.fixture
def folder() -> Iterator[Path]:
    with a_folder() as made:
        yield made


def test_the_first_rung_that_holds_is_chosen() -> None:
    held = [trial.sandbox for trial in survey().values() if trial.sandbox]
    assert asyncio.run(probe()) == (held[0] if held else None)


def test_what_is_in_force_is_told(jail: Jail) -> None:
    network = "own network with loopback" if jail.isolated else "no network, not even loopback"
    assert describe(jail).startswith(f"sandbox: {jail.tier}; {network}; ")
    assert describe(None).startswith("sandbox: none, commands are refused")


async def test_a_command_works_in_its_folder(jail: Jail, folder: Path) -> None:
    (folder / "in").write_text("there\n")
    ran = await run(jail, folder, "sh", "-c", "cat in; pwd; mkdir -p a/b; echo made > a/b/out; rm in; exit 3")
    assert (ran.exit_code, ran.output, ran.timed_out) == (3, f"there\n{folder}\n".encode(), False)
    assert (folder / "a/b/out").read_text() == "made\n"
    assert not (folder / "in").exists()


async def test_output_and_errors_come_in_their_order(jail: Jail, folder: Path) -> None:
    code = "import sys, os\nfor n in range(3): print('out', n); print('err', n, file=sys.stderr); os.system(f'echo child {n}')"
    ran = await run(jail, folder, "python3", "-c", code)
    assert ran.output.decode().splitlines() == [f"{who} {n}" for n in range(3) for who in ("out", "err", "child")]


async def test_unit_tests_of_a_server_run(jail: Jail, folder: Path) -> None:
    if not jail.isolated:
        pytest.skip("only a network of its own has a loopback")
    (folder / "test_app.py").write_text(SERVER_TEST)
    ran = await run(jail, folder, "python3", "-m", "unittest", "-q", "test_app")
    assert ran.exit_code == 0, ran.output.decode()
    assert sorted(path.name for path in folder.iterdir()) == ["test_app.py"]


async def test_sqlite_and_temporary_files_work(jail: Jail, folder: Path) -> None:
    code = (
        "import sqlite3, tempfile, os, pathlib\n"
        "db = sqlite3.connect('app.db'); db.execute('create table t (a)'); db.commit()\n"
        "tempfile.NamedTemporaryFile(delete=False).write(b'x'); pathlib.Path.home().joinpath('.cache').mkdir()\n"
    )
    ran = await run(jail, folder, "python3", "-c", code)
    assert ran.exit_code == 0, ran.output.decode()
    assert [path.name for path in folder.iterdir()] == ["app.db"]


async def test_the_environment_is_ours_alone(jail: Jail, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    ran = await run(
        jail, folder, "python3", "-c", "import os, json; print(json.dumps(dict(os.environ)))", env={"EXTRA": "1"}
    )
    environment = json.loads(ran.output)
    assert "canary" not in ran.output.decode()
    assert environment["EXTRA"] == "1"
    assert environment["HOME"] == environment["TMPDIR"] != str(folder)
    allowed = {"PATH", "HOME", "TMPDIR", "USER", "LANG", "TZ", "TERM", "EXTRA", "PWD", "LC_CTYPE"}
    assert {name for name in environment if not name.startswith(("PYTHON", "GIT_"))} <= allowed


async def test_no_descriptor_but_the_standard_three_is_inherited(jail: Jail, folder: Path) -> None:
    code = """
import os
for number in range(3, 1024):
    try:
        os.fstat(number)
        print("open", number)
    except OSError:
        pass
print(os.read(0, 1))
"""
    ran = await run(jail, folder, "python3", "-c", code)
    assert (ran.exit_code, ran.output) == (0, b"b''\n")


async def test_arguments_are_taken_as_they_are(jail: Jail, folder: Path) -> None:
    arguments = ["; id", "&& id", "$(id)", "`id`", "$IFS", "a\nb", "*", "ü", "--", "-x", ""]
    ran = await run(jail, folder, "python3", "-c", "import sys, json; print(json.dumps(sys.argv[1:]))", *arguments)
    assert json.loads(ran.output) == arguments


async def test_a_program_that_is_not_there_fails(jail: Jail, folder: Path) -> None:
    ran = await run(jail, folder, "no-such-program")
    assert ran.exit_code == 127
    assert b"no-such-program" in ran.output


async def test_a_signal_is_an_exit_code(jail: Jail, folder: Path) -> None:
    ran = await run(jail, folder, "python3", "-c", "import ctypes; ctypes.string_at(0)")
    assert (ran.exit_code, ran.timed_out, ran.killed) == (139, False, "")


async def test_time_ends_a_command_and_keeps_what_it_said(jail: Jail, folder: Path) -> None:
    code = "import time; print('begun'); time.sleep(600)"
    ran = await run(jail, folder, "python3", "-c", code, f"mark{folder.name}", seconds_max=0.5)
    assert (ran.timed_out, ran.output) == (True, b"begun\n")
    assert ran.duration_ms < 3000
    assert not alive(f"mark{folder.name}")


async def test_a_command_may_clean_up_when_its_time_is_over(jail: Jail, folder: Path) -> None:
    code = "import signal, sys, time; signal.signal(15, lambda *a: sys.exit(print('cleaned') or 7)); print('on'); time.sleep(600)"
    ran = await run(jail, folder, "python3", "-c", code, seconds_max=0.7)
    assert ran.output == b"on\ncleaned\n"
    assert ran.timed_out


async def test_what_will_not_end_is_killed(jail: Jail, folder: Path) -> None:
    mark = f"mark{folder.name}"
    code = "import signal, os\nfor s in (1, 2, 15): signal.signal(s, signal.SIG_IGN)\nos.fork()\nwhile True: pass"
    ran = await run(jail, folder, "python3", "-c", code, mark, seconds_max=0.3)
    assert ran.timed_out
    assert ran.duration_ms < 6000
    assert not alive(mark)


async def test_cancelling_ends_the_whole_family(jail: Jail, folder: Path) -> None:
    mark = f"mark{folder.name}"
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
open('up', 'w')
time.sleep(600)
"""
    running = asyncio.ensure_future(run(jail, folder, "python3", "-c", code, mark))
    await shown(folder / "up")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not alive(mark)


async def test_a_daemon_does_not_outlive_its_command(jail: Jail, folder: Path) -> None:
    mark = f"mark{folder.name}"
    code = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        null = os.open('/dev/null', os.O_RDWR)
        for fd in (0, 1, 2): os.dup2(null, fd)
        open('daemon', 'w')
        while True: pass
    os._exit(0)
while not os.path.exists('daemon'): time.sleep(0.01)
print('left')
"""
    ran = await run(jail, folder, "python3", "-c", code, mark)
    assert (ran.exit_code, ran.output) == (0, b"left\n")
    assert not alive(mark)


async def test_a_first_thread_that_ends_does_not_hide_the_others(jail: Jail, folder: Path) -> None:
    mark = f"mark{folder.name}"
    code = """
import ctypes, os, threading, time
if os.fork() == 0:
    os.setsid()
    def on():
        open('thread', 'w')
        while True: time.sleep(1)
    threading.Thread(target=on).start()
    while not os.path.exists('thread'): time.sleep(0.01)
    ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)
while not os.path.exists('thread'): time.sleep(0.01)
"""
    ran = await run(jail, folder, "python3", "-c", code, mark)
    assert ran.exit_code == 0, ran.output
    assert not alive(mark)


async def test_many_commands_run_side_by_side(jail: Jail) -> None:
    async def one(number: int) -> bytes:
        with a_folder() as folder:
            return (await run(jail, folder, "sh", "-c", f"echo {number} > n; cat n")).output

    assert await asyncio.gather(*(one(number) for number in range(8))) == [
        f"{number}\n".encode() for number in range(8)
    ]


async def test_a_command_that_cannot_be_confined_does_not_run(jail: Jail, folder: Path) -> None:
    with pytest.raises(ToolError) as failure:
        await run(replace(jail, readable=("/no/such/place",)), folder, "touch", "ran")
    assert failure.value.code == "sandbox_failed"
    assert not (folder / "ran").exists()
