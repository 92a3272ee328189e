"""What the owner asks for by a button or a switch: alignment mode, or a capture, one at a time. Loaded while it lasts.

state     ON or a press          OFF              ON of the other             the tool has ended
IDLE      RUNNING, or refused    nothing          RUNNING, or refused         -
RUNNING   nothing                ENDING           ENDING, then in its place   IDLE
ENDING    each command waits in the mailbox, where none is lost               IDLE
"""

import asyncio

from micropython import const

from firmware.hardware.health import call
from firmware.mqtt.outbox import member
from metering.unload import unload

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from firmware.app import Services
    from firmware.contracts import Tool
    from firmware.reading.meter import Meter

ALIGNMENT = "alignment"
CAPTURE = "capture"
NAMES = (ALIGNMENT, CAPTURE)  # of the commands in the mailbox

IDLE = const(0)
RUNNING = const(1)
ENDING = const(2)

_LOOK_MS = const(200)
_RESERVE_BYTES = const(4096)  # for what is composed meanwhile: a state of 22 registers, an announcement
# What a tool's code takes, measured: with less the heap may grow into Wi-Fi's memory while it is loaded.
_ALIGNMENT_BYTES = const(4608)
_CAPTURE_BYTES = const(2048)
_REST_FACTOR = const(72)  # a battery meter's rest: twenty minutes of being asked often a day
_MOST_REST_S = const(86400)


def _room():
    """Bytes that may be taken before Python's heap grows into Wi-Fi's memory."""
    return call("firmware.hardware.memory_figures", lambda figures: figures.room())


class OwnerCommands:
    """Carries commands out on `meter`; tell(sentence) says why one is refused. `services` are firmware.app.Services."""

    def __init__(self, services: "Services", meter: "Meter", led, board_name, tell):
        self._services = services
        self._meter = meter
        self._led = led
        self._board_name = board_name
        self._tell = tell
        self.state = IDLE
        self._tool: Tool | None = None
        self._task = None
        self._next = None  # the other tool's command, until this one has ended
        self._began_s = 0

    async def run(self, command):
        """Carry out `command` (name, payload, session) and what follows it; returns when nothing is wanted any more."""
        while self.step(command):
            command = None
            await asyncio.sleep_ms(_LOOK_MS)

    def step(self, command=None):
        """Look once: is anything going on, or wanted? `command` comes before those in the mailbox."""
        mailbox = self._services.network.mailbox
        if self._tool is not None and self._tool.done:
            self._drop_tool()
        if self.state == IDLE:
            command = command or self._next
            self._next = None
        if self.state == ENDING:
            return True
        command = command or mailbox.pop_command(*NAMES)
        if command is None:
            return self.state != IDLE
        name, payload = command[0], command[1]
        is_off = payload == b"OFF"
        if self.state == IDLE:
            if not is_off:
                self._start(name, payload)
        elif self._tool is not None and (name == self._tool.NAME) == is_off:  # its OFF, or the other's ON
            self._next = None if is_off else command
            self._tool.stopped = True
            self.state = ENDING
        return True

    def _start(self, name, payload):
        """IDLE, to RUNNING; where it must not be, say why."""
        services = self._services
        refusal = ""
        if name == CAPTURE and services.network.mailbox.large_message:
            refusal = "the last one is still being sent"
        elif self._meter.spares_battery() and services.rested_s - services.health.uptime_s > _MOST_REST_S:
            refusal = "the meter runs on a battery and has been asked often: try again tomorrow"
        else:
            free = _room() - (_ALIGNMENT_BYTES if name == ALIGNMENT else _CAPTURE_BYTES)
            try:
                if free >= _RESERVE_BYTES:
                    tool = self._load(name, payload)
                    free = _room()
                    if free >= _RESERVE_BYTES:
                        self._tool = tool
                        self._began_s = services.health.uptime_s
                        self._task = asyncio.create_task(tool.run())
                        self.state = RUNNING
                        return
            except MemoryError:
                free = 0
            tool = None
            refusal = "%d bytes of memory would be left, too few: restart the probe and try again" % max(free, 0)
            self._unload_tools()
        self._tell("%s is refused: %s" % (name, refusal))
        if name == ALIGNMENT:  # the hub shows that it is not on
            payload = bytearray()
            for key, value in (("mode", '"OFF"'), ("score", "0"), ("best", "0"), ("words", '"%s"' % refusal)):
                member(payload, key, value)
            payload += b"}"
            services.outbox.put(services.announcer.topic(name), payload, False)

    def _load(self, name, payload):
        services, topic = self._services, self._services.announcer.topic(name)
        if name == ALIGNMENT:
            from firmware.owner.alignment_task import AlignmentTask

            return AlignmentTask(services, self._meter, topic, self._led)
        from firmware.owner.capture_task import CaptureTask

        return CaptureTask(services, self._meter, topic, payload, self._board_name)

    def _drop_tool(self):
        """To IDLE."""
        services = self._services
        now_s = services.health.uptime_s
        if self._meter.spares_battery():
            services.rested_s = max(services.rested_s, now_s) + _REST_FACTOR * (now_s - self._began_s)
        self._tool = self._task = None
        self.state = IDLE
        self._unload_tools()

    @staticmethod
    def _unload_tools():
        unload("firmware.owner.alignment_task")
        unload("firmware.owner.capture_task")
        unload("metering.signal_quality")
