"""The two releases behind every proxy of this benchmark, on fixed ports. Start at backends().

Each is a server of one nginx that answers its colour from memory, so that what is measured is the proxy; what takes
300 ms it has from the demo application. Connections to it stay open for as long as the proxy wants.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.peers.children import Child
from bench.throughput import HEAD
from proxyctl import demo
from proxyctl.domain.model import Colour

PORTS = {Colour.BLUE: 18811, Colour.GREEN: 18812}
SLOW_PORTS = {Colour.BLUE: 18813, Colour.GREEN: 18814}
SLOW = "/slow?ms=300"

RELEASE = """
server {{ listen 127.0.0.1:{port}; keepalive_requests 100000000; keepalive_timeout 1h;
    location / {{ add_header X-Release {colour}; return 200 "{colour}\\n"; }}
    location /slow {{ proxy_pass http://127.0.0.1:{slow}; }}
}}"""


@asynccontextmanager
async def backends(folder: Path) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for child in (*applications(folder), answering_from_memory(folder)):
            stack.push_async_callback(child.stop)
            await child.start()
        yield


def applications(folder: Path) -> list[Child]:
    code = str(Path(str(demo.__file__)).with_name("app.py"))
    return [
        Child(folder, port, sys.executable, code, environment={"RELEASE": colour, "PORT": str(port)})
        for colour, port in SLOW_PORTS.items()
    ]


def answering_from_memory(folder: Path) -> Child:
    config = folder / "backends.conf"
    servers = [RELEASE.format(port=PORTS[colour], slow=SLOW_PORTS[colour], colour=colour) for colour in Colour]
    config.write_text(HEAD.format(folder=folder, name="backends", workers=1) + "".join(servers) + "}")
    return Child(folder, PORTS[Colour.BLUE], "nginx", "-e", str(folder / "error.log"), "-c", str(config))
