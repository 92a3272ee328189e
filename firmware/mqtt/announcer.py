"""What stands in memory of announcing all the time: the topics, and what there is to be told of a meter."""


class Meter:
    """What is announced of a meter: `meter_id` its name, `slug` the same fit for topics, `maker` and `model` or "",
    `registers`, and after how many seconds without a telegram its instantaneous values are unknown again.
    `is_model_only`: `meter_id` is that of all meters of this model. `serial`: the number printed on it, where that is
    another than `meter_id`.
    """

    is_model_only = False
    serial = ""

    def __init__(self, meter_id, slug, maker, model, registers, live_expires_s):
        self.meter_id = meter_id
        self.slug = slug
        self.maker = maker
        self.model = model
        self.registers = registers
        self.live_expires_s = live_expires_s

    def more_components(self, state, live) -> "tuple[tuple[str, dict], ...]":
        """(key, component) of each entity beside the registers'; `state` and `live` are the topics' texts."""
        return ()


def slug(text):
    """`text` fit for a topic or an entity id; every other character becomes its hex code, so that none collide."""
    out = bytearray()
    for byte in text.encode():
        if 0x30 <= byte <= 0x39 or 0x41 <= byte <= 0x5A or 0x61 <= byte <= 0x7A or byte == 0x2D:
            out.append(byte)
        else:
            out.extend(b"_%02x" % byte)
    return bytes(out).decode() or "unnamed"


class Announcer:
    """Names one probe and its topics, by `prefix` and `probe_id`; `discovery_prefix` is the hub's.

    `telegrams` is to be False where none are read, but the flashes of an LED; `asks`: is the meter asked (None: not
    known yet)? `meters_come_and_go` True where each meter has a status of its own. `settings` are the owner's, some of
    which can be changed from the hub; `board_name` is "" where there is none.
    """

    settings = {}
    board_name = ""

    def __init__(self, prefix, probe_id, probe_name, discovery_prefix):
        self._prefix = prefix
        self.probe_id = probe_id
        self.probe_name = probe_name
        self.discovery_prefix = discovery_prefix
        self.telegrams = True
        self.asks: bool | None = None
        self.meters_come_and_go = False

    def topic(self, *levels):
        """`prefix/probe id/level/...` as bytes."""
        return "/".join((self._prefix, self.probe_id) + levels).encode()

    def state_topic(self, meter):
        """Where the meter's counters and identifiers go, retained."""
        return self.topic(meter.slug, "state")

    def live_topic(self, meter):
        """Where the meter's instantaneous values go, not retained."""
        return self.topic(meter.slug, "live")

    def object_id(self, meter):
        """The name of the device in the hub's topics; of the probe for None."""
        return "_".join(["optoprobe", self.probe_id] + ([meter.slug] if meter else []))
