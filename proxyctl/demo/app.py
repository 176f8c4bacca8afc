"""The demo application: a small HTTP/1.1 server that says which release it is. Runs inside the demo images, alone.

/          the release, also in the header X-Release      /healthz    200, or 503 once sick
/slow?ms=N answers after N ms                             /sse        an event every 100 ms
/upload    answers how many bytes came                    /ws         a WebSocket that echoes its bytes
/sick      health is 503 from now on                      /crash      exits with code 3

Environment: RELEASE, PORT, START_DELAY_MS, SICK, SICK_AFTER_MS, EXIT_AFTER_MS, EXIT_CODE, ERROR_RATE, DELAY_MS.
"""

import asyncio
import base64
import hashlib
import os
import random
import signal
import time

RELEASE = os.environ.get("RELEASE", "?")
PORT = int(os.environ.get("PORT", "8000"))
STARTED = time.monotonic()
ERROR_RATE = float(os.environ.get("ERROR_RATE", "0"))
DELAY = int(os.environ.get("DELAY_MS", "0")) / 1000
WS_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

sick = os.environ.get("SICK") == "1"
open_requests = 0
stopping = asyncio.Event()


def after(name):
    """Whether the time in this variable has passed since the start."""
    ms = os.environ.get(name)
    return ms is not None and (time.monotonic() - STARTED) * 1000 >= int(ms)


def answer(status, body, keep, kind="text/plain"):
    head = (
        f"HTTP/1.1 {status}\r\nX-Release: {RELEASE}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    return head.encode() + body


async def serve(reader, writer):
    global open_requests
    try:
        while not stopping.is_set():
            head = await reader.readuntil(b"\r\n\r\n")
            open_requests += 1
            try:
                if not await respond(head, reader, writer):
                    return
            finally:
                open_requests -= 1
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        pass
    finally:
        writer.close()


async def respond(head, reader, writer):
    """Answer one request; whether the connection goes on."""
    global sick
    line, *rest = head.decode("latin-1").split("\r\n")
    _method, target, _ = line.split(" ", 2)
    headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in rest if h)}
    path, _, query = target.partition("?")
    keep = headers.get("connection", "").lower() != "close" and not stopping.is_set()
    received = await body(headers, reader)
    if path == "/sse":
        return await stream(writer)
    if path == "/ws":
        return await websocket(headers, reader, writer)
    if path == "/slow":
        await asyncio.sleep(int(query.partition("=")[2] or 0) / 1000)
    if path == "/crash":
        os._exit(3)
    if path == "/sick":
        sick = True
    if DELAY:
        await asyncio.sleep(random.lognormvariate(0, 0.3) * DELAY)
    status, text = "200 OK", RELEASE.encode() + b"\n"
    if path != "/healthz" and random.random() < ERROR_RATE:
        status, text = "500 Internal Server Error", b"failed\n"
    if path == "/healthz" and (sick or after("SICK_AFTER_MS")):
        status, text = "503 Service Unavailable", b"sick\n"
    if path == "/upload":
        text = str(received).encode() + b"\n"
    writer.write(answer(status, text, keep))
    await writer.drain()
    return keep


async def body(headers, reader):
    """Read the request's body; its length."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        total = 0
        while size := int((await reader.readline()).split(b";")[0], 16):
            await reader.readexactly(size + 2)
            total += size
        await reader.readline()
        return total
    left = total = int(headers.get("content-length", 0))
    while left:
        left -= len(await reader.read(min(left, 65536)) or b"x" * left)
    return total


async def stream(writer):
    head = f"HTTP/1.1 200 OK\r\nX-Release: {RELEASE}\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    writer.write(head.encode())
    for n in range(600):
        writer.write(f"data: {RELEASE} {n}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(0.1)
    return False


async def websocket(headers, reader, writer):
    key = headers.get("sec-websocket-key", "").encode()
    accept = base64.b64encode(hashlib.sha1(key + WS_GUID).digest()).decode()
    writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\nX-Release: {RELEASE}\r\n\r\n".encode()
    )
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    return False


def doom():
    print(f"release {RELEASE}: cannot go on", flush=True)
    os._exit(int(os.environ.get("EXIT_CODE", "3")))


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await asyncio.sleep(int(os.environ.get("START_DELAY_MS", "0")) / 1000)
    server = await asyncio.start_server(serve, "0.0.0.0", PORT, backlog=1024)
    print(f"release {RELEASE} listens on {PORT}", flush=True)
    if "EXIT_AFTER_MS" in os.environ:
        asyncio.get_running_loop().call_later(int(os.environ["EXIT_AFTER_MS"]) / 1000, doom)
    await stopping.wait()
    server.close()
    while open_requests:
        await asyncio.sleep(0.01)


asyncio.run(main())
