"""Power cuts amid writes of a littlefs, while settings, counters and totals are saved by the firmware's own code.

argv: how many cuts, a seed, and perhaps a fault planted (see PLANTED). MicroPython's own littlefs (VfsLfs2) lies on
blocks in memory; at a random write or erase of a block the power goes, a part of it done. Then all is mounted anew and
read by the firmware's code: each file must hold what it held before the save that was cut or what that was to write,
and no total shown is below one shown before.
Prints one JSON list: cuts; of these amid a save of settings, counters, totals, and saves that were whole, totals shown;
and the highest total.
"""

import json
import os
import random
import sys

import machine
import vfs

from firmware import settings, store
from firmware.reading.invocation_counters import Counters
from firmware.reading.persistent_totals import PersistentTotals

BLOCK_BYTES = 4096
BLOCKS = 24
MOST_WRITES = 50  # of a life
KEY_CHECK = 77


class Cut(BaseException):
    """The power is gone."""


class Blocks:
    """NOR flash holding `data` in one life, of which the `left`th write or erase is cut. Behind that it is dead: what
    closes a file of that life, as a collection does, reaches nothing.
    """

    def __init__(self, data, left):
        self._data = data
        self.left = left

    def readblocks(self, n, buffer, offset=0):
        if self.left < 0:
            return DEAD
        at = n * BLOCK_BYTES + offset
        buffer[:] = memoryview(self._data)[at : at + len(buffer)]

    def writeblocks(self, n, buffer, offset=0):
        return self._put(n * BLOCK_BYTES + offset, buffer)

    def _put(self, at, data):
        if self.left < 0:
            return DEAD
        self.left -= 1
        size = len(data) if self.left >= 0 else random.randrange(len(data) + 1)
        self._data[at : at + size] = memoryview(data)[:size]
        if self.left < 0:
            raise Cut

    def ioctl(self, operation, argument):
        if operation == 4:
            return BLOCKS
        if operation == 5:
            return BLOCK_BYTES
        if operation == 6:
            return self._put(argument * BLOCK_BYTES, ERASED) or 0
        return 0


DEAD = -5
ERASED = b"\xff" * BLOCK_BYTES


class Rtc:
    """It loses what it holds with the power."""

    memory_now = b""

    def memory(self, data=None):
        if data is None:
            return Rtc.memory_now
        Rtc.memory_now = bytes(data)


class Listener:
    """As much of one as the counters need."""

    key_check = KEY_CHECK
    system_title = b"ABCDEFGH"

    def __init__(self):
        self.invocation_counter = -1

    def set_keys(self, key, auth_key):
        pass

    def restore_counter(self, title, counter):
        assert title == self.system_title
        self.invocation_counter = counter


def settings_of(n):
    """The nth: of changing length, with a key of a later version."""
    return {
        "probe_name": "P%d" % n,
        "mqtt_host": "b" * (n * 37 % 120 + 1),
        "wifi_ssid": "home",
        "of_later": [n, "x" * (n % 50)],
    }


class Life:
    """From the mount to the cut. `kept`: what each file held after its last whole save, and what was to be written."""

    def __init__(self, blocks, kept, broker):
        self._blocks = blocks
        vfs.mount(vfs.VfsLfs2(blocks), "/flash")
        os.chdir("/flash")
        Rtc.memory_now = b""
        self.kept = kept
        self.broker = broker
        self.uptime_s = 0
        self._settings = self.read_settings()
        self.listener = Listener()
        self.counters = Counters(self.listener, b"k", None)
        counter = self.listener.invocation_counter
        assert counter in kept["counters"], (counter, kept["counters"])
        kept["counters"] = [counter]
        self.totals = PersistentTotals(1000)
        if planted == "grant nothing":
            grant_nothing(self.totals._history)
        before = self.broker["state"] if random.randrange(3) else None  # or the broker has lost it
        self.totals.read_back(before, b"offline", 0)
        self.go_on()
        self.show()

    def go_on(self):
        """Whatever has become of the cut on its way up, as where a file is closed behind it."""
        if self._blocks.left < 0:
            raise Cut

    def read_settings(self):
        values, problems = settings.load("settings.json")
        name = values["probe_name"]
        assert name[0] == "P", problems
        found = int(name[1:])
        assert found in self.kept["settings"], (found, self.kept["settings"])
        assert not problems and values["of_later"] == settings_of(found)["of_later"], problems
        assert values["mqtt_host"] == settings_of(found)["mqtt_host"]
        self.kept["settings"] = [found]
        return found

    def show(self):
        """Publish the total, as far as it may be."""
        counted, _ = self.totals.shown()
        if counted is None:
            return
        pulses = int("".join(counted.split(".")))
        assert pulses >= self.broker["highest"], (counted, self.broker)
        self.broker["highest"] = pulses
        self.broker["state"] = json.dumps({"energy_counted": counted}).encode()
        counts["shown"] += 1

    def save(self):
        """One of the three, at random."""
        global doing
        self.uptime_s += 1
        doing = ("settings", "counters", "totals")[random.randrange(3)]
        if doing == "settings":
            n = self._settings + 1
            self.kept["settings"].append(n)
            saved = save("settings.json", settings_of(n))
            self.go_on()
            assert saved
            self.kept["settings"] = [n]
            self._settings = n
        elif doing == "counters":
            self.listener.invocation_counter = counter = self.listener.invocation_counter + 1024
            self.kept["counters"].append(counter)
            self.counters.keep()
            self.go_on()
            self.kept["counters"] = [counter]
        else:
            self.totals.add(random.randrange(1, 400))
            self.uptime_s += random.randrange(3000)
            self.totals.keep(self.uptime_s)
            self.go_on()
            self.show()
        counts["saved"] += 1


def save_over_nothing(path, value):
    """A save that has nothing for a moment."""
    try:
        os.remove(path)
        with open(path, "w") as file:
            json.dump(value, file)
        return True
    except OSError:
        return False


def grant_nothing(totals):
    """Totals whose flash does not tell what may have been published beyond it."""
    totals.lose_power = lambda granted: None
    totals.missing = lambda counted, published: 0


PLANTED = ("save over nothing", "grant nothing")
planted = sys.argv[3] if len(sys.argv) > 3 else ""
save = save_over_nothing if planted == "save over nothing" else store.save
random.seed(int(sys.argv[2]))
machine.RTC = Rtc
counts = {"settings": 0, "counters": 0, "totals": 0, "mount": 0, "saved": 0, "shown": 0}
doing = "mount"
data = bytearray(b"\xff" * (BLOCK_BYTES * BLOCKS))
blocks = Blocks(data, 1 << 30)
vfs.VfsLfs2.mkfs(blocks)
vfs.mount(vfs.VfsLfs2(blocks), "/flash")
os.chdir("/flash")
store.save("settings.json", settings_of(0))
os.chdir("/")
vfs.umount("/flash")
kept = {"settings": [0], "counters": [-1]}
broker = {"highest": 0, "state": None}
cuts = int(sys.argv[1])
for _ in range(cuts):
    doing = "mount"
    try:
        life = Life(Blocks(data, random.randrange(MOST_WRITES)), kept, broker)
        while True:
            life.save()
    except Cut:
        counts[doing] += 1
    os.chdir("/")
    try:
        vfs.umount("/flash")
    except OSError:
        pass  # it was cut before it was mounted
print(json.dumps([cuts, counts, broker["highest"]]))
