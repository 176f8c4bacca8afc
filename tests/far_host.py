"""Another host: a network namespace with an engine of its own, at the other end of a cable. Start at far_host()."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.certificates import as_docker_names_them
from tests.own_engine import own_engine

PORT = 2376


class FarHost:
    """All of it on networks for measurements (RFC 2544), apart from those of other tests."""

    def __init__(self, folder: Path) -> None:
        number = os.getpid() % 200
        self.name = f"px-far-{number}"
        self.here, self.address = f"198.18.{number}.1", f"198.18.{number}.2"
        self.pool = f"198.19.{number + 1}.0/24"  # of which its engine takes subnets
        self.engine = f"tcp://{self.address}:{PORT}"
        self.certificates = as_docker_names_them(folder / "far-tls", self.address)
        self._cable = f"px-cab-{number}"

    @property
    def inside(self) -> Sequence[str]:
        return ("nsenter", f"--net=/run/netns/{self.name}")

    @property
    def environment(self) -> dict[str, str]:
        files = str(self.certificates)
        return {"DOCKER_HOST": self.engine, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": files}

    @property
    def options(self) -> list[str]:
        """Of its engine."""
        files = self.certificates
        return [
            *("--host", self.engine, "--tlsverify", "--tlscacert", str(files / "ca.pem")),
            *("--tlscert", str(files / "cert.pem"), "--tlskey", str(files / "key.pem")),
            *("--iptables=true", "--ip-masq=true"),  # it has a packet filter of its own
            *("--default-address-pool", f"base={self.pool},size=27"),
        ]

    def run(self, words: str) -> None:
        """There."""
        subprocess.run([*self.inside, *words.split()], check=True)

    def plug_in(self) -> None:
        ip(f"netns add {self.name}")
        ip(f"link add {self._cable} type veth peer name eth0 netns {self.name}")
        ip(f"address add {self.here}/30 dev {self._cable}")
        ip(f"link set {self._cable} up")
        self.run("ip link set lo up")
        self.run(f"ip address add {self.address}/30 dev eth0")
        self.run("ip link set eth0 up")
        self.run(f"ip route add default via {self.here}")

    def unplug(self) -> None:
        """What was routed there is forgotten with the cable."""
        subprocess.run(["ip", "link", "delete", self._cable], check=False, stderr=subprocess.DEVNULL)
        ip(f"netns delete {self.name}")


def ip(words: str) -> None:
    """Here."""
    subprocess.run(["ip", *words.split()], check=True)


@contextmanager
def far_host(folder: Path) -> Iterator[FarHost]:
    made = FarHost(folder)
    made.plug_in()
    try:
        with own_engine(made.inside, made.options):
            made.run(f"iptables -I DOCKER-USER -s {made.here} -d {made.pool} -j ACCEPT")
            yield made
    finally:
        made.unplug()
