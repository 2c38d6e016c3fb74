"""A real Apache Kafka, one KRaft node, started from a distribution's jars (Java 17)."""

from __future__ import annotations

import base64
import signal
import socket
import subprocess
import uuid
from pathlib import Path

from ops.bench.children import free_ports
from ops.chaos.scenario import wait_until
from ops.process import die_with_parent

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


class RealKafka:
    """From the jars in ``home``, its data in ``folder``; or one that runs elsewhere (``folder`` None), at ``address``."""

    def __init__(self, home: Path | None, folder: Path | None, address: str = "", *, proxy_port: int | None = None) -> None:
        """``proxy_port``: where clients are sent instead of to the broker's own ``port``."""
        self._home, self._folder = home, folder
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap_servers = address
        if folder is not None:
            self.port, controller = free_ports(2)
            reached = proxy_port or self.port
            self.bootstrap_servers = f"127.0.0.1:{reached}"
            text = _PROPERTIES.format(port=self.port, advertised=reached, controller=controller, data=folder / "data")
            (folder / "server.properties").write_text(text)
            identity = base64.urlsafe_b64encode(b"P" + uuid.uuid4().bytes[1:]).decode().rstrip("=")  # never begins with a dash
            self._java("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(folder / "server.properties"))
            self.start()

    @property
    def ours(self) -> bool:
        return self._folder is not None

    def start(self) -> None:
        assert self._folder is not None
        with (self._folder / "kafka.log").open("ab") as log:
            command = [*self._command(), "kafka.Kafka", str(self._folder / "server.properties")]
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log, preexec_fn=die_with_parent)
        wait_until(self._answers, f"Kafka, see {self._folder / 'kafka.log'}", 60)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"Kafka ended: {(self._folder or Path()) / 'kafka.log'}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def _command(self) -> list[str]:
        flags = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return ["java", *flags, "-cp", f"{self._home}/libs/*"]

    def _java(self, *arguments: str) -> None:
        subprocess.run([*self._command(), *arguments], capture_output=True, text=True, timeout=60, cwd=self._folder, check=True)
