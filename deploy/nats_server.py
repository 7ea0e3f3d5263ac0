"""nats-server with JetStream in one folder, on a loopback port."""

import asyncio
import json
import secrets
import signal
from pathlib import Path
from typing import cast

import msgspec

from deploy.errors import DidNotStart, FolderUnusable, PortInUse, last_lines
from deploy.nats_binary import nats_server_binary
from deploy.ports import LOOPBACK, free_port, require_free
from deploy.process import POLL_SECONDS, Process, end_orphan, read_pid
from deploy.server import START_SECONDS_MAX, STOP_SECONDS_MAX, Server

PORT_TRIES_MAX = 10
CONNECT_SECONDS_MAX = 2.0

# sync_interval `always`: an acknowledged event has reached the disk. The limit and the flag mend defaults of 2.15 that
# do not fit us: at most 1,000 consumers a stream, and acks in another form.
CONFIG = """\
server_name: {name}
listen: "{host}:{port}"
http: "{host}:{monitor_port}"
pid_file: {pid_file}
max_payload: 1MB
jetstream {{
  store_dir: {store}
  max_memory_store: 256MB
  {disk}
  {sync}
  limits {{ default_max_consumers: 100000 }}
}}
feature_flags {{ js_ack_fc_v2: false }}
"""

# Not advertised: clients know the addresses they were given, so a proxy or a firewall before a node stays in the way.
CLUSTER = """\
cluster {{
  name: {cluster}
  listen: "{host}:{port}"
  no_advertise: true
  routes: [{routes}]
}}
"""


class Seat(msgspec.Struct, frozen=True):
    """A server's place in a cluster: its own name there, its port for the other nodes, and all such ports."""

    cluster: str
    name: str
    port: int
    ports: tuple[int, ...]


class NatsServer(Server):
    """`nats.url` is its address. Restarted, it keeps port and data."""

    name = "nats-server"
    stop_signals = (signal.SIGTERM,)

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        binary: Path | None = None,
        sync_always: bool = True,
        disk_bytes_max: int = 0,
        seat: Seat | None = None,
    ) -> None:
        """Port 0 takes a free one. Without `sync_always` an acknowledged event may wait two minutes for the disk.

        It keeps at most `disk_bytes_max` of streams (0: as much as it finds fit), and refuses to store more.
        """
        super().__init__(folder)
        self._named_binary = binary
        self._sync_always = sync_always
        self._disk_bytes_max = disk_bytes_max
        self._may_move = port == 0
        self._port = port
        self._monitor_port = 0
        self._seat = seat
        self._name = seat.name if seat else f"callboard-{secrets.token_hex(8)}"

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def server_name(self) -> str:
        """By this a stream's cluster names its leader."""
        return self._name

    @property
    def monitor_url(self) -> str:
        """Where /varz, /jsz and /healthz are read."""
        return f"http://{LOOPBACK}:{self._monitor_port}"

    @property
    def log_path(self) -> Path:
        return self._folder / "nats.log"

    async def start(self) -> None:
        if self.is_running:
            return
        binary = nats_server_binary(self._named_binary)
        await self._end_orphan()
        for _ in range(PORT_TRIES_MAX):
            self._choose_ports()
            if await self._starts(binary):
                self._may_move = False
                return
        raise PortInUse(self._port)

    async def _end_orphan(self) -> None:
        pid = read_pid(self._pid_file)
        if pid is not None:
            await end_orphan(
                pid, argument=str(self._config_file), stop_signal=signal.SIGTERM, within_seconds=STOP_SECONDS_MAX
            )

    def _choose_ports(self) -> None:
        if self._may_move:
            self._port = free_port()
        else:
            require_free(self._port)
        self._monitor_port = free_port()

    async def _starts(self, binary: Path) -> bool:
        """False when another process was quicker on a port that we may still change."""
        self._write_config()
        argv = [str(binary), "--config", str(self._config_file)]
        try:
            self._process = Process(argv, log_path=self.log_path, on_parent_death=signal.SIGTERM)
        except OSError as error:
            raise DidNotStart(self.name, f"cannot be run from {binary} ({error})", self.log_path) from error
        try:
            return await self._became_ready(self._process)
        except BaseException:
            self._process.kill()
            raise

    async def _became_ready(self, process: Process) -> bool:
        deadline = asyncio.get_running_loop().time() + START_SECONDS_MAX
        while not await self._answers():
            if not process.is_running:
                if "address already in use" in "".join(last_lines(self.log_path)):
                    return False
                raise DidNotStart(self.name, f"ended with exit code {process.exit_code}", self.log_path)
            if asyncio.get_running_loop().time() > deadline:
                raise DidNotStart(self.name, f"was not ready after {START_SECONDS_MAX:.0f} s", self.log_path)
            await asyncio.sleep(POLL_SECONDS)
        return True

    async def _answers(self) -> bool:
        """Whether it is this server, by its name, that speaks on the port."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
                try:
                    line = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return server_name(line) == self._name

    def _write_config(self) -> None:
        store = self._folder / "jetstream"
        config = CONFIG.format(
            name=self._name,
            host=LOOPBACK,
            port=self._port,
            monitor_port=self._monitor_port,
            pid_file=_quoted(self._pid_file),
            store=_quoted(store),
            disk=f"max_file_store: {self._disk_bytes_max}" if self._disk_bytes_max else "",
            sync="sync_interval: always" if self._sync_always else "",
        )
        try:
            store.mkdir(mode=0o700, exist_ok=True)
            self._config_file.write_text(config + self._cluster_config())
        except OSError as error:
            raise FolderUnusable(self._folder, error.strerror or str(error)) from error

    def _cluster_config(self) -> str:
        if self._seat is None:
            return ""
        routes = ", ".join(f'"nats://{LOOPBACK}:{port}"' for port in self._seat.ports if port != self._seat.port)
        return CLUSTER.format(cluster=self._seat.cluster, host=LOOPBACK, port=self._seat.port, routes=routes)

    @property
    def _config_file(self) -> Path:
        return self._folder / "nats.conf"

    @property
    def _pid_file(self) -> Path:
        return self._folder / "nats.pid"


def server_name(info_line: bytes) -> str | None:
    """The name in the `INFO {…}` that a NATS server greets with; None for any other greeting."""
    word, _, body = info_line.partition(b" ")
    if word != b"INFO":
        return None
    try:
        info: object = json.loads(body)
    except ValueError:
        return None
    name = cast("dict[str, object]", info).get("server_name") if isinstance(info, dict) else None
    return name if isinstance(name, str) else None


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
