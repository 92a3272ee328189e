"""What the firmware wants of whatever reads a meter (TelegramMeter, PulseMeter, Search and MeterSupervisor extend it),
and what they are told of it.
"""

from micropython import const

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from metering.guard import Guard


class Meter:
    """`protocol` is its name for the diagnostics, `guard` has judged the values of its telegrams."""

    protocol = "searching"
    guard: "Guard | None" = None

    def slug(self) -> str:
        """The meter's name fit for topics, "" where it is not known yet."""
        return ""

    def is_push(self) -> bool:
        """Does the meter send telegrams without being asked?"""
        return False

    def set_interactive(self, interactive):
        """True: ask without long pauses, and without a password, as somebody moves the head or records."""

    def spares_battery(self) -> bool:
        """Does asking often cost the meter's battery?"""
        return False

    def received(self) -> "tuple[int, int]":
        """How many telegrams or flashes came whole, whatever became of them then, and how many were spoilt."""
        return 0, 0

    def report_to(self, presence, now_s):
        """Tell `presence` (firmware.reading.presence.Presence) what has come of the meter. Called once a second."""

    def notice(self) -> str:
        """The one sentence the owner should read now, "" if all is well."""
        return ""

    def count_into(self, counts):
        """Add the diagnostics to `counts` (dict of plain values)."""

    def release(self):
        """The meter is no longer read: what it has left with others goes."""

    async def run(self):
        """Started by the app or the supervisor."""
        raise NotImplementedError


class ReadingSettings:
    """What is being read now: `protocol`, `line` (metering.line.Line, None: the protocol's usual one), `is_polled`
    (None: where the protocol knows how to ask), `password` ("": none), `options` for who asks by DLMS. `owner` holds
    the settings as firmware.settings has loaded them; nobody changes those.
    """

    def __init__(self, settings):
        self.owner = settings
        self.protocol = settings["protocol"]
        self.line = settings["line"]
        self.is_polled: bool | None = None
        self.password = settings["meter_password"]
        self.options = settings["meter_options"]
