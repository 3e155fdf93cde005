"""Sends a file by frisbee's protocol: ``imagesender.py OWN-ADDRESS GROUP PORT FILE TCP-PORT``.

A server of one image for tests of receivers: the session of bootfw with blocking sockets. It runs until it is killed,
and says how many blocks it has sent each time that a receiver leaves. At TCP-PORT it is a master server, for any name
but "missing".
"""

import select
import socket
import sys
import time
from pathlib import Path

from bootfw.errors import WireError
from bootfw.frisbee.pace import Pace
from bootfw.frisbee.session import Input, Reply, Session, State
from bootfw.wire import frisbee, frisbeemaster
from bootfw.wire.frisbeemaster import Error, Method


def serve(own: str, group: str, port: int, path: str, tcp_port: int) -> None:
    content = Path(path).read_bytes()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind(("", port))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(group) + socket.inet_aton(own))
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    master = socket.create_server((own, tcp_port))
    session = Session(len(content), Pace(50e6), 1e9, time.monotonic())
    print("ready", flush=True)
    while True:
        due = session.deadline if session.state is State.PACING else None
        wait = None if due is None else max(0.0, due - time.monotonic())
        ready, _, _ = select.select([sock, master], [], [], wait)
        now = time.monotonic()
        if sock in ready:
            data, (host, _) = sock.recvfrom(2048)
            take(session, data, now)
            for out in session.out:
                if isinstance(out, Reply):
                    reply = frisbee.Join2Reply(own, out.join.client, len(content))
                    sock.sendto(frisbee.pack(reply), (host, port))
            session.out.clear()
        if master in ready:
            answer(master.accept()[0], own, group, port)
        if session.state is State.PACING and session.deadline is not None and session.deadline <= now:
            session.handle(Input.TICK, None, now)
            assert session.wants is not None
            for number in session.wants.blocks:
                start = session.wants.chunk * frisbee.CHUNK_SIZE + number * frisbee.BLOCK_SIZE
                block = content[start : start + frisbee.BLOCK_SIZE].ljust(frisbee.BLOCK_SIZE, b"\0")
                sock.sendto(frisbee.block_header(own, session.wants.chunk, number) + block, (group, port))
            session.handle(Input.READ, None, now)


def take(session: Session, data: bytes, now: float) -> None:
    try:
        packet = frisbee.parse(data)
    except WireError:
        return
    match packet:
        case frisbee.Join():
            session.handle(Input.JOIN, packet, now)
        case frisbee.Request() | frisbee.PartialRequest():
            session.handle(Input.REQUEST, packet, now)
        case frisbee.Leave():
            session.handle(Input.LEAVE, packet, now)
            print(f"{session.blocks_sent} blocks", flush=True)


def answer(connection: socket.socket, own: str, group: str, port: int) -> None:
    with connection:
        request = frisbeemaster.parse_request(connection.recv(frisbeemaster.GET_REQUEST_SIZE))
        assert isinstance(request, frisbeemaster.GetRequest)
        reply = frisbeemaster.GetReply(method=Method.MULTICAST, running=True, server=own, address=group, port=port)
        if request.image == "missing":
            reply = frisbeemaster.GetReply(error=Error.NO_IMAGE)
        connection.sendall(frisbeemaster.pack(reply))


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5]))
