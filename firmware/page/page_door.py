"""The page's door: the listening socket, and what the page remembers while its code is not in memory.

A page that would be in the way of metering gives way: it is not made where less than 35.5 KiB are free at the start
(firmware.composition), and ends where less than 8 are free while it runs.

    closed ──Wi-Fi joined──► listening ──a client──► is there room for the page's code? ──no──► 503, and why
                                 ▲                                │ yes
                                 └──── a minute without a client ─┤ loaded: one task a client, two at a time

All of it runs in the loop that meters, between its steps: no socket blocks, each wait has a limit (page_request), and
what computes for long does so in slices (password_hash). In memory where `device_password` is set, and only there.
"""

import array
import asyncio
import gc
import select
import socket

from micropython import const

from firmware.hardware.health import call
from firmware.page.page_members import NO_POINT
from metering.unload import unload

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.app import Diagnostics, Services
    from firmware.page.kept_outbox import KeptOutbox
    from firmware.reading.meter import Meter

_MOST_CLIENTS = const(2)  # at a time; lwIP has some ten sockets for all
_LOOK_MS = const(100)
_BUSY_MS = const(10)  # with the code in memory
_IDLE_S = const(60)
_OPEN_AGAIN_S = const(10)
_REFUSAL_MS = const(300)  # for a client to have said all: what is left unread would undo the answer
# What the page's code takes, measured (4,480 of it are the string pool's, which doubles now and then), and what a
# request of the largest answer does beside it.
_CODE_BYTES = const(18688)
_RESERVE_BYTES = const(4096)
_LEAST_ROOM = const(8192)  # for metering, with the page's code not in memory
_MOST_SHORTAGES = const(2)
_POINTS = const(60)  # of the graph: one a minute
_MOST_W = const(0x1FFFFFFE)
_MOST_NOTICES = const(8)
_CODE = "firmware.page.page_answers firmware.page.page_access firmware.page.page_request firmware.page.page_members"
_NO_ROOM = (
    b"HTTP/1.0 503 No memory\r\nContent-Type: text/plain\r\nRetry-After: 60\r\nConnection: close\r\n\r\n"
    b"optoprobe: the page needs more memory than this meter's protocol leaves. The readings go on.\n"
)


class PageDoor:
    """Fields without underscore are the page's: its modules come and go, this object stays."""

    def __init__(self, settings, services: "Services", meter: "Meter | None", diagnostics: "Diagnostics"):
        self.services = services
        self.meter = meter
        self.diagnostics = diagnostics
        self.outbox: KeptOutbox = services.outbox  # type: ignore[assignment] - firmware.composition has seen to it
        self.probe_name = settings["probe_name"]
        self.host = services.network.probe_id.replace("_", "-").lower()  # as the router knows the probe
        self.password = settings["device_password"]  # "pbkdf2:..." of firmware.page.password_hash
        self.sessions = []  # [key, token, uptime s at which it ends]
        self.basic = b""  # digest of the authorization that was right last
        self.failures = [0, 0]  # wrong passwords in a row, of people and of scripts,
        self.login_due_s = [0, 0]  # and when the next may be tried
        self.is_deriving = False
        self.refused = 0  # requests that were answered with anything but 200
        self.graph = array.array("i", [NO_POINT] * _POINTS)  # W, oldest first
        self.notices = []  # [uptime s, sentence], oldest first
        self.live_s = -1  # uptime of the last instantaneous values
        self._lives = 0
        self._minute = 0
        self._settings = settings
        self._port = settings["page_port"]
        self._socket = None
        self._poller = select.poll()
        self._clients = 0
        self._shortages = 0
        self._used_s = -1  # uptime of the last client, -1 where no code is in memory

    async def run(self):
        """Started by the app; ends where metering needs the memory."""
        due_s = 0
        seen_s = -1
        await self._hash_password(self._settings)
        self._settings = None
        while self._shortages < _MOST_SHORTAGES:
            now_s = self.services.health.uptime_s
            try:
                if now_s != seen_s:
                    seen_s = now_s
                    self._look(now_s)
                if self._socket is not None:
                    self._accept(self._socket, now_s)
                elif now_s >= due_s and self.services.network.rssi_dbm() is not None:
                    due_s = now_s + _OPEN_AGAIN_S
                    self._open()
            except OSError:  # a client that has gone; a port that is taken
                pass
            except MemoryError:
                gc.collect()
                self._shortages += self._used_s < 0
            await asyncio.sleep_ms(_LOOK_MS if self._used_s < 0 else _BUSY_MS)
        if self._socket is not None:
            self._socket.close()
        self.outbox.stop_keeping()
        self.diagnostics.tell("page: closed until the next start, as the meter's protocol needs the memory")
        unload("firmware.page.page_door")

    async def _hash_password(self, settings):
        """A password that was given as it is, is kept as a hash from now on, in the settings' file too."""
        from firmware.page import password_hash

        try:
            if not password_hash.is_hash(self.password):
                given = self.password
                self.password = settings["device_password"] = await password_hash.hashed(given)
                password_hash.keep(given, self.password)
        except MemoryError:  # nobody gets in without it
            gc.collect()
        password_hash = None
        unload("firmware.page.password_hash")

    def _open(self):
        listening = socket.socket()
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(socket.getaddrinfo("0.0.0.0", self._port)[0][-1])
            listening.listen(_MOST_CLIENTS)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._poller.register(listening, select.POLLIN)
        self._socket = listening

    def _accept(self, listening, now_s):
        """Take the clients that wait."""
        while self._clients < _MOST_CLIENTS and self._poller.poll(0):
            client = listening.accept()[0]
            try:
                client.setblocking(False)
                task = self._serve(client) if self._has_code() else _refuse(client)
                asyncio.create_task(self._end(client, task))
            except (OSError, MemoryError):
                client.close()
                raise
            self._clients += 1
            if self._used_s >= 0:
                self._used_s = now_s

    def _has_code(self):
        """Is the page's code in memory? It is loaded where there is room."""
        if self._used_s < 0:
            if self._room() < _CODE_BYTES + _RESERVE_BYTES:
                return False
            self._used_s = 0
        return True

    @staticmethod
    def _room():
        return call("firmware.hardware.memory_figures", lambda figures: figures.room())

    async def _serve(self, client):
        from firmware.page.page_access import admit
        from firmware.page.page_request import serve

        await serve(self, admit, client)

    async def _end(self, client, task):
        """Started for each client; ends when it has gone."""
        try:
            await task
        except (OSError, MemoryError):
            pass
        finally:
            client.close()
            self._clients -= 1

    def _look(self, now_s):
        """Once a second: what the page tells later, and whether its code may go."""
        if self._used_s >= 0 and not self._clients and now_s - self._used_s > _IDLE_S:
            self._used_s = -1
            for name in _CODE.split():
                unload(name)
        if self.outbox.lives != self._lives:
            self._lives = self.outbox.lives
            self.live_s = now_s
        notice = self.diagnostics.notice()
        if notice and (not self.notices or self.notices[-1][1] != notice):
            self.notices.append([now_s, notice])
            if len(self.notices) > _MOST_NOTICES:
                self.notices.pop(0)
        if now_s // 60 != self._minute:
            self._minute = now_s // 60
            self._add_point(now_s)

    def _add_point(self, now_s):
        if self._used_s < 0:
            self._shortages = self._shortages + 1 if self._room() < _LEAST_ROOM else 0
        graph = self.graph
        for i in range(1, _POINTS):
            graph[i - 1] = graph[i]
        graph[-1] = NO_POINT
        meter = self.outbox.meter()
        if meter and self.live_s >= 0 and now_s - self.live_s <= meter.live_expires_s:
            watts = self._watts(meter)
            if watts is not None:
                graph[-1] = max(-_MOST_W, min(watts, _MOST_W))

    def _watts(self, meter):
        live = self.outbox.last(self.services.announcer.live_topic(meter))
        return call("firmware.page.page_members", lambda page_members: page_members.watts(live))


async def _refuse(client):
    """Say that there is no room."""
    await asyncio.sleep_ms(_REFUSAL_MS)
    try:
        client.recv(1024)
    except OSError:  # it has said nothing
        pass
    client.send(_NO_ROOM)
