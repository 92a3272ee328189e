"""What the firmware wants of whatever reads a meter (TelegramMeter, PulseMeter, Search and MeterSupervisor extend it),
and what they are told of it.
"""

from micropython import const

from metering.line import Line

TYPE_CHECKING = const(0)
if TYPE_CHECKING:
    from metering.guard import Guard


class Meter:
    """`protocol` is its name for the diagnostics, `guard` has judged the values of its telegrams."""

    protocol = "searching"
    guard: "Guard | None" = None

    @property
    def recognised(self) -> int:
        """How many telegrams, those without a key among them, or flashes have come."""
        return 0

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

    def well_received(self) -> int:
        """How many telegrams or flashes came whole, whatever became of them then."""
        return 0

    def badly_received(self) -> int:
        """How many telegrams or flashes were spoilt on their way."""
        return 0

    def unanswered(self) -> int:
        """How often the meter has not answered, or not with its name: damaged blocks come from one that is there."""
        return 0

    def password_refused(self) -> bool:
        """Has the meter refused the owner's password?"""
        return False

    def non_flash_ms(self) -> int:
        """For how long light that is no flash was seen since the last call."""
        return 0

    def steady(self) -> bool:
        """Is an LED on all the time, as a meter's where nothing is consumed?"""
        return False

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
    (None: where the protocol knows how to ask), `password` ("": none). `owner` holds the settings as firmware.settings
    has loaded them; nobody changes those.
    """

    def __init__(self, settings):
        self.owner = settings
        self.protocol = settings["protocol"]
        self.line = settings["line"]
        self.is_polled: bool | None = None
        self.password = settings["meter_password"]


class DetectedMeter:
    """What is known of the meter found last; firmware.reading.detected_meter keeps it over restarts.

    `protocol` is None where nothing has been found yet. `baud bits parity invert` are the line as the meter sends,
    `uart_parity` is the parity that the UART was set to when the meter was proven; `seen` and `line` say so in words.
    `slug` names the meter whose entities the hub has.
    """

    def __init__(self):
        self.protocol: str | None = None
        self.is_polled = False
        self.baud = 9600
        self.bits = 8
        self.parity: str | None = None
        self.uart_parity: str | None = None
        self.invert = False
        self.seen = self.line = self.slug = ""

    def uart_line(self):
        """The Line (metering.line) that the UART was set to when the meter was proven."""
        return Line(self.baud, self.bits, self.parity if self.bits == 7 else self.uart_parity, 1)
