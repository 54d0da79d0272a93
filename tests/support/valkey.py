"""Servers for tests of kappa_redis: one, a cluster, and TLS in front of one."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import redis

from kappa_redis.embedded import find_program

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator

__all__ = [
    "NEVER",
    "Node",
    "Proxy",
    "SlowProxy",
    "TLSProxy",
    "certificate",
    "fail_over_after",
    "free_port",
    "programs",
    "start_cluster",
    "start_guarded",
    "start_node",
    "tls_options",
    "wait_until",
]

#: Milliseconds that no machine stands still for.
NEVER = 600_000

_START = 60.0  # seconds
_TRIES = 3  # at a port that somebody else may take first
_SLOTS = 16384


class Node:
    """A server in a process of its own.

    Args:
        folder: where its socket and files lie.
        port: its TCP port.
        program: the server's program; default the one of the wheel.
        **options: further options of the server.
    """

    def __init__(
        self, folder: Path, port: int, program: Path | None = None, **options: str
    ) -> None:
        self.folder = folder
        self.program = program or find_program()
        self.port = port
        self.options = options
        self._tls = "tls-cert-file" in options
        self.url = f"redis{'s' * self._tls}://127.0.0.1:{port}"
        self.socket_url = f"unix://{folder}/socket"
        self.start()

    def start(self) -> None:
        """Start it, with what it last saved, or empty."""
        words = self._sentinel() if "sentinel" in self.options else self._server()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([str(self.program), *words], stdout=log, stderr=log)
        deadline = time.monotonic() + _START
        while True:
            with contextlib.suppress(redis.ConnectionError), self.client() as client:
                if self._answers(client):
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text())
            time.sleep(0.01)

    def _answers(self, client: Any) -> bool:
        """Return whether it is this server, and not another that has taken the port meanwhile."""
        try:
            return bool(client.info("server")["process_id"] == self._process.pid)
        except redis.ResponseError:  # the options of a test took INFO away
            return self._process.poll() is None

    def _ports(self) -> dict[str, str]:
        port = str(self.port)
        return {"port": "0", "tls-port": port} if self._tls else {"port": port}

    def _sentinel(self) -> list[str]:
        """Write a sentinel's file, which it keeps up to date itself; return its arguments."""
        file = self.folder / "conf"
        settings = {**self.options, **self._ports(), "bind": "127.0.0.1"}
        master = settings.pop("sentinel")
        lines = [f"{name} {value}" for name, value in settings.items()]
        lines += [
            f"dir {self.folder}",
            f"sentinel monitor words 127.0.0.1 {master} 1",
            f"sentinel down-after-milliseconds words {NEVER}",
            f"sentinel failover-timeout words {NEVER}",
        ]
        if not file.exists():
            file.write_text("\n".join(lines) + "\n")
        return [str(file), "--sentinel"]

    def _server(self) -> list[str]:
        options = {
            **self._ports(),
            "bind": "127.0.0.1",
            "unixsocket": str(self.folder / "socket"),
            "dir": str(self.folder),
            "save": "",
            "loglevel": "warning",
            **self.options,
        }
        return [
            word
            for name, value in options.items()
            for word in (f"--{name}", *(value.split() or [""]))
        ]

    def client(self, **arguments: Any) -> Any:
        """Return a client of redis-py for it, with all rights."""
        if self._tls:
            arguments = {"ssl": True, "ssl_cert_reqs": "none", **arguments}
        password = self.options.get("requirepass")
        return redis.Redis(port=self.port, protocol=2, password=password, **arguments)

    def send(self, number: signal.Signals) -> None:
        """Send its process a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._process.kill()
        self._process.wait()


def programs() -> dict[str, Path]:
    """Return the servers that are installed: the wheel's, and a redis-server on the PATH."""
    found = {"valkey": find_program()}
    if (other := shutil.which("redis-server")) is not None:
        found["redis"] = Path(other)
    return found


def free_port() -> int:
    """Return a port that nobody listens on now, and whose cluster bus port is valid too."""
    while True:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
            if port < 55000:
                return port


@contextlib.contextmanager
def start_node(program: Path | None = None, **options: str) -> Iterator[Node]:
    """Run a server."""
    folder = Path(tempfile.mkdtemp(prefix="valkey-"))
    try:
        node = _start_node(folder, program, options)
        try:
            yield node
        finally:
            node.kill()
    finally:
        shutil.rmtree(folder)


def _start_node(folder: Path, program: Path | None, options: dict[str, str]) -> Node:
    for _ in range(_TRIES - 1):
        with contextlib.suppress(RuntimeError):
            return Node(folder, free_port(), program, **options)
    return Node(folder, free_port(), program, **options)


@contextlib.contextmanager
def start_cluster(
    nodes: int = 3, program: Path | None = None, *, replicas: int = 0, **options: str
) -> Iterator[list[Node]]:
    """Run a cluster whose nodes share the slots evenly.

    None is taken for dead before :func:`fail_over_after`, however busy the machine is.

    Args:
        nodes: how many of them hold slots; they come first.
        program: the servers' program; default the one of the wheel.
        replicas: how many each of them has.
        **options: further options of the servers.
    """
    settings = {"cluster-enabled": "yes", "cluster-node-timeout": "2000", **options}
    settings["repl-diskless-sync-delay"] = "0"
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(start_node(program, **settings))
            for _ in range(nodes * (1 + replicas))
        ]
        for number, node in enumerate(running):
            first, last = _SLOTS * number // nodes, _SLOTS * (number + 1) // nodes - 1
            with node.client() as client:
                if number < nodes:
                    client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", running[0].port)
        wait_until(lambda: all(_is_whole(node, len(running)) for node in running))
        for number, node in enumerate(running[nodes:]):
            with running[number % nodes].client() as primary, node.client() as client:
                name = primary.execute_command("CLUSTER", "MYID")
                wait_until(partial(_follows, client, name))
        wait_until(lambda: all(_knows(node, len(running)) for node in running))
        fail_over_after(running)
        yield running


def fail_over_after(nodes: list[Node], milliseconds: int = NEVER) -> None:
    """Have a cluster take a node for dead that says nothing for so long."""
    for node in nodes:
        with node.client() as client:
            client.execute_command("CONFIG", "SET", "cluster-node-timeout", milliseconds)


def _is_whole(node: Node, nodes: int) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == nodes


def _knows(node: Node, nodes: int) -> bool:
    """Return whether a node has heard which slots each node holds or copies."""
    with node.client() as client:
        ranges = client.execute_command("CLUSTER", "SLOTS")
        return sum(len(members) for _, _, *members in ranges) == nodes


def _follows(client: Any, primary: bytes) -> bool:
    """Have a node follow another one; return whether it does."""
    with contextlib.suppress(redis.ResponseError):  # it does not know the other one yet
        client.execute_command("CLUSTER", "REPLICATE", primary)
    return bool(client.info("replication").get("master_link_status") == "up")


class Guarded(NamedTuple):
    """A master, its replica, and a sentinel that watches over them."""

    master: Node
    replica: Node
    sentinel: Node
    url: str

    def named(self) -> int:
        """Return the port of the server that the sentinel names as the master."""
        with self.sentinel.client() as client:
            return int(client.sentinel_get_master_addr_by_name("words")[1])

    def fail_over_after(self, milliseconds: int = NEVER) -> None:
        """Have the sentinel take a server for dead that says nothing for so long."""
        with self.sentinel.client() as client:
            words = ["SET", "words", "down-after-milliseconds", milliseconds]
            client.execute_command("SENTINEL", *words)


@contextlib.contextmanager
def start_guarded(
    program: Path | None = None, *, tls: dict[str, str] | None = None, **options: str
) -> Iterator[Guarded]:
    """Run a service of the name ``words``.

    No server is taken for dead before ``fail_over_after``, however busy the machine is.

    Args:
        program: the servers' program; default the one of the wheel.
        tls: options of all servers for TLS, see :func:`tls_options`.
        **options: further options of the sentinel.
    """
    options = {**options, **(tls or {})}
    at_once = {"repl-diskless-sync-delay": "0", **(tls or {})}
    with start_node(program, **at_once) as master, start_node(program, **at_once) as replica:
        with replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", master.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up")
        with start_node(program, sentinel=str(master.port), **options) as sentinel:
            with sentinel.client() as client:
                # Until the sentinel has asked the replica, it would not choose it.
                wait_until(
                    lambda: (
                        [each["master-link-status"] for each in client.sentinel_slaves("words")]
                        == ["ok"]
                    )
                )
            scheme = "sentinels" if tls else "sentinel"
            yield Guarded(master, replica, sentinel, f"{scheme}://127.0.0.1:{sentinel.port}/words")


def wait_until(done: Callable[[], bool]) -> float:
    """Wait until something is so; return how many seconds that took."""
    start = time.monotonic()
    while not done():
        if time.monotonic() - start > _START:
            raise TimeoutError("what was waited for did not happen")
        time.sleep(0.02)
    return time.monotonic() - start


def certificate(folder: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> tuple[Path, Path]:
    """Make a certificate that vouches for itself; return it and its key.

    Args:
        folder: where the two lie.
        names: what it is for, as OpenSSL writes it.
    """
    cert, key = folder / "cert.pem", folder / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", f"subjectAltName={names}"]
    files = ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(["openssl", *words, *subject, *files], check=True, capture_output=True)
    return cert, key


def tls_options(folder: Path) -> dict[str, str]:
    """Return the options of a server that takes TLS alone, with a new certificate."""
    cert, key = certificate(folder)
    return {
        "tls-cert-file": str(cert),
        "tls-key-file": str(key),
        "tls-ca-cert-file": str(cert),
        "tls-auth-clients": "no",
        "tls-replication": "yes",
    }


class Proxy:
    """Takes connections on a port of its own; what passes through them is a subclass's.

    Args:
        target: the server's port.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        """Serve a connection until it ends. This one hangs up, as if the server were down."""
        accepted.close()


class TLSProxy(Proxy):
    """Takes TLS connections and passes on what is inside, since the server's wheel has no TLS.

    Args:
        target: the server's port.
        cert: the certificate to show.
        key: its key.
        client_ca: the authority whose certificates clients must show; None: they need none.
    """

    def __init__(self, target: int, cert: Path, key: Path, client_ca: Path | None = None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(cert, key)
        if client_ca is not None:
            self._context.verify_mode = ssl.CERT_REQUIRED
            self._context.load_verify_locations(client_ca)
        super().__init__(target)

    def _serve(self, accepted: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            accepted,
            self._context.wrap_socket(accepted, server_side=True) as inner,
            socket.create_connection(("127.0.0.1", self._target)) as outer,
        ):
            sources: list[socket.socket] = [inner, outer]
            # One thread for both ways: a TLS connection must not be used by two at once.
            while True:
                # What is decrypted already shows in no select.
                ready = [inner] if inner.pending() else select.select(sources, [], [])[0]
                for source, target in ((inner, outer), (outer, inner)):
                    if source in ready:
                        data = source.recv(1 << 16)
                        if not data:
                            return
                        target.sendall(data)


class SlowProxy(Proxy):
    """Passes on what comes for a server, and what it answers, a limited number of bytes a second.

    Args:
        target: the server's port.
        rate: bytes a second in each direction.
    """

    def __init__(self, target: int, rate: float) -> None:
        self._rate = rate
        self._passed: list[int] = []
        super().__init__(target)
        self.url = f"redis://127.0.0.1:{self.port}"

    @property
    def passed(self) -> int:
        """Bytes that have gone through, in both directions together."""
        return sum(self._passed)

    def _serve(self, accepted: socket.socket) -> None:
        with accepted, socket.create_connection(("127.0.0.1", self._target)) as outer:
            back = threading.Thread(target=self._pass_on, args=(outer, accepted), daemon=True)
            back.start()
            self._pass_on(accepted, outer)
            back.join()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 15):
                time.sleep(len(data) / self._rate)
                target.sendall(data)
                self._passed.append(len(data))
        for end in (source, target):  # the other direction ends, too
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
