"""Improv Wi-Fi via serial, version 1 of the packets: a browser or a phone gives the Wi-Fi over the console's port.

    49 4D 50 52 4F 56 01   type  n  n bytes  sum of all before, its low byte  0A
    "IMPROV", version

    type 1  state     02 ready, 03 trying, 04 the Wi-Fi is joined
         2  error     00 none, 01 no whole command, 02 unknown command, 03 not joined, FF anything else
         3  command   its number, n, n bytes: texts, each behind its length
         4  result    the command's number, n, n bytes likewise

    command 1  join: name, password          the address to go on at, none yet; the state before and behind it
            2  state                         as packet 1, and as 1 if joined
            3  what is this?                 firmware, version, chip, name, system, its version
            4  networks                      a result each: name, dBm, YES or NO a password; an empty one at the end

Source: improv-wifi's "Serial" page, and what npm's improv-wifi-serial-sdk 2.8.1 sends. Loaded with the first packet.
What is given is tried before it is kept; the settings are replaced whole or not at all. No password is ever sent.
"""

import asyncio
import sys
import time

from micropython import const

from firmware import VERSION
from firmware.mqtt.wifi_trial import WifiTrial
from firmware.store import read_json, save

_HEADER = b"IMPROV\x01"

_STATE = const(1)
_ERROR = const(2)
_COMMAND = const(3)
_RESULT = const(4)

_READY = const(2)
_TRYING = const(3)
_JOINED = const(4)

_NO_ERROR = const(0)
_INVALID = const(1)
_UNKNOWN = const(2)
_NOT_JOINED = const(3)
_OTHER = const(255)

_JOIN = const(1)
_ASK_STATE = const(2)
_ASK_INFO = const(3)
_ASK_NETWORKS = const(4)

_BYTE_MS = const(1000)  # the next byte of a packet, at the latest
_LOOK_MS = const(5)
_IDLE_S = const(60)  # then the code goes
_RESTART_MS = const(2000)  # for the result to leave
_MOST_NAME = const(32)
_MOST_PASSWORD = const(64)
_SETTINGS_FILE = "settings.json"
_MAX_FILE_BYTES = const(8192)


class Improv:
    """Answers packets; `refused` counts those that were not whole. `services` are firmware.app.Services."""

    def __init__(self, services):
        self._services = services
        self._packet = bytearray(258)  # type, length, at most 255 bytes, sum
        self._one = bytearray(1)
        self._trial = None
        self._command = 0  # that the trial is for
        self._given = None  # (name, password) that are tried
        self._used_s = 0
        self._restart_at = None  # ticks
        self.refused = 0

    async def take(self, console, stdin):
        """Read the packet whose header has come from `stdin`, polled by `console`, and answer it."""
        self._used_s = self._services.health.uptime_s
        packet = self._packet
        n = waited_ms = 0
        needed = 2
        while n < needed:
            is_there = False
            for _ in console.ipoll(0):
                is_there = True
            if is_there:
                if not stdin.readinto(self._one):
                    return
                packet[n] = self._one[0]
                n += 1
                waited_ms = 0
                if n == 2:
                    needed = packet[1] + 3
            elif waited_ms >= _BYTE_MS:
                self.refused += 1
                return
            else:
                waited_ms += _LOOK_MS
                await asyncio.sleep_ms(_LOOK_MS)
        self.answer(packet, needed)
        for i in range(len(packet)):  # a password may stand in it
            packet[i] = 0

    def answer(self, packet, n):
        """Answer the first n bytes of `packet`, from the type on."""
        if packet[0] != _COMMAND:  # our own, come back: no answer, as that would come back too
            self.refused += 1
            return
        command, size = packet[2], packet[1]
        if (sum(_HEADER) + sum(packet[: n - 1])) & 0xFF != packet[n - 1] or size < 2 or packet[3] != size - 2:
            self.refused += 1
            self._send(_ERROR, bytes((_INVALID,)))
        elif command == _ASK_STATE:
            self._send_state()
        elif command == _ASK_INFO:
            self._send_result(command, self._info())
        elif command != _JOIN and command != _ASK_NETWORKS:
            self._send(_ERROR, bytes((_UNKNOWN,)))
        elif self._trial is not None or self._restart_at is not None:
            self._send(_ERROR, bytes((_OTHER,)))
        else:
            self._begin(command, packet[4 : n - 1])

    def _begin(self, command, data):
        """Scan, or try to join with what `data` holds: in a thread, as both take seconds."""
        given = None
        if command == _JOIN:
            given = _name_and_password(data)
            if given is None:
                self.refused += 1
                self._send(_ERROR, bytes((_INVALID,)))
                return
            self._send(_ERROR, bytes((_NO_ERROR,)))
            self._send(_STATE, bytes((_TRYING,)))
        self._command = command
        self._given = given
        self._trial = WifiTrial(self._services.network, self._services.health, given)
        self._trial.start()

    def is_over(self):
        """Look once: has a trial ended, is it time to restart? True when nobody has spoken Improv for a minute."""
        if self._restart_at is not None:
            if time.ticks_diff(time.ticks_ms(), self._restart_at) >= 0:
                from firmware.hardware import restarts

                restarts.restart(restarts.BY_OWNER)
            return False
        trial = self._trial
        if trial is None:
            return self._services.health.uptime_s - self._used_s > _IDLE_S
        if trial.is_done:
            self._trial = None
            self._used_s = self._services.health.uptime_s
            if self._command == _ASK_NETWORKS:
                for name, dbm, has_password in trial.networks:
                    self._send_result(_ASK_NETWORKS, (name, str(dbm).encode(), b"YES" if has_password else b"NO"))
                self._send_result(_ASK_NETWORKS, ())
            else:
                self._end(trial.is_joined)
        return False

    def _end(self, is_joined):
        """Keep what was tried, if it was good, and say so."""
        given = self._given
        self._given = None
        error = _NOT_JOINED
        if is_joined:
            if _keep(given):
                self._send(_STATE, bytes((_JOINED,)))
                self._send_result(_JOIN, ())
                print("optoprobe: Improv: the Wi-Fi is joined and its settings are kept: restarting")
                self._restart_at = time.ticks_add(time.ticks_ms(), _RESTART_MS)
                return
            error = _OTHER
            print("optoprobe: Improv: the settings cannot be written: free the device's memory")
        else:
            print("optoprobe: Improv: the Wi-Fi cannot be joined, the settings stay: check its name and password")
        self._send(_ERROR, bytes((error,)))
        self._send_state()

    def _send_state(self):
        is_joined = self._restart_at is not None or self._services.network.wifi.is_joined()
        state = _TRYING if self._command == _JOIN and self._trial is not None else _JOINED if is_joined else _READY
        self._send(_STATE, bytes((state,)))
        if state == _JOINED:
            self._send_result(_ASK_STATE, ())

    def _info(self):
        network = self._services.network
        # such as "ESP32C3 module with ESP32C3", from MicroPython 1.29 on with ESP32-C3
        machine = getattr(sys.implementation, "_machine", "")
        chip = machine.split(" with ")[-1]
        if chip[:5] == "ESP32" and chip[5:6] not in ("", "-"):
            chip = "ESP32-" + chip[5:]
        version = ".".join([str(number) for number in sys.implementation.version[:3]])
        texts = ("optoprobe", VERSION, chip, network.settings["probe_name"], "MicroPython", version)
        return [text.encode()[:40] for text in texts]

    def _send_result(self, command, texts):
        data = bytearray((command, 0))
        for text in texts:
            data.append(len(text))
            data += text
        data[1] = len(data) - 2
        self._send(_RESULT, data)

    @staticmethod
    def _send(kind, data):
        """One packet, in one piece, on a line of its own: others print between them."""
        packet = bytearray(_HEADER)
        packet.append(kind)
        packet.append(len(data))
        packet += data
        packet.append(sum(packet) & 0xFF)
        sys.stdout.buffer.write(b"\n" + packet + b"\n")


def _name_and_password(data):
    """The two texts in the bytes `data` of command 1; None where they are not whole, or no Wi-Fi has such."""
    if not data or len(data) < data[0] + 2 or len(data) != data[0] + 2 + data[data[0] + 1]:
        return None
    name, password = bytes(data[1 : data[0] + 1]), bytes(data[data[0] + 2 :])
    if not 0 < len(name) <= _MOST_NAME or len(password) > _MOST_PASSWORD or b"\x00" in name or b"\x00" in password:
        return None
    try:
        return name.decode(), password.decode()
    except ValueError:
        return None


def _keep(given):
    """Put the Wi-Fi's name and password over what the settings hold; True when they are on flash."""
    try:
        try:
            settings = read_json(_SETTINGS_FILE, _MAX_FILE_BYTES)
        except OSError:  # none yet
            settings = {}
        except ValueError:  # damaged: the probe has read nothing of it
            settings = None
        if not isinstance(settings, dict):
            settings = {}
        settings["wifi_ssid"], settings["wifi_password"] = given
        return save(_SETTINGS_FILE, settings)
    except MemoryError:
        return False
