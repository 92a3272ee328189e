"""Speed and memory of our decoders beside others, on this machine, in one run. `make bench` starts it.

    bench.py [--rounds N] [--seconds S] [--only peers|landed]

SML is measured beside smllib and pysml, IEC 62056-21 in two sets: P1 telegrams with a CRC beside dsmr-parser, read-outs
framed by STX, ETX and BCC beside iec62056-21. DLMS is measured in three: plain telegrams and those with a tag beside
gurux-dlms and dlms-cosem, all encrypted ones beside gurux-dlms alone, as dlms-cosem takes none without a tag.

Each decoder is given one whole telegram at a time and has to find the frame, check its CRC or BCC and give every value;
ours makes the exact text of each as well. Timed are the telegrams that all read rightly (those that leave values out or
count them otherwise, as smllib's short cut, dsmr-parser and iec62056-21 do, need only not refuse them), in rounds that
take turns, so that a slow spell of the machine hits all; figures are medians of the rounds. Of DLMS the others give the
tree alone, and are right where its numbers add up to what they must; which register each is and its scale they leave to
their user, ours says. Where they do not know a framing they are given the APDU, out of frames that are checked here.

A listener of ours has had its telegram before, and learns on a computer where the values of a list or a block stand: a
meter's next telegram, of other numbers, is nearly always of the same form. Each table has a row of listeners made anew.

Memory is the peak that tracemalloc sees while one telegram is decoded, with everything the decoder makes for it. What
is made once and kept is not in it, for none: imported modules, dsmr-parser's parser with its compiled expressions,
gurux-dlms' client, our listener with its buffer and what it made of a key (on a computer some 200 KB of tables where a
tag is checked); but each table has a row of ours with a listener made for each telegram too.

Behind the tables the same telegrams are decoded by the core as it was before it was made faster (commit LANDED, taken
from git into a temporary folder), on CPython and on MicroPython's unix port, in rounds that take turns with today's;
figures are the best rounds' processor time, ratios of these.

The last lines say which share of a telegram's time on the line its tag (GHASH) and its decryption take on MicroPython's
unix port on this machine, usually its 32-bit one. A board is far slower.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from support import core_on_micropython, corpus

from metering import sml
from metering.checksum import CCITT, X25_INIT, crc16, crc_table
from metering.dlms import push as dlms
from metering.dlms.axdr import ber_length
from metering.iec62056_21 import data_block as iec62056_21
from metering.line import Line
from metering.listener import NOTHING, TELEGRAM, Listener
from optoprobe.building import device_tree
from optoprobe.environment import runtime
from optoprobe.virtual.dlms_meter import DlmsMeter
from optoprobe.virtual.iec62056_21_meter import IecMeter
from optoprobe.virtual.sml_meter import QUIRKS, SmlMeter

CORPUS = corpus.CORPUS / "sml"
IEC_CORPUS = CORPUS.with_name("iec62056_21")
DLMS_CORPUS = CORPUS.with_name("dlms")
IEC_BUFFER = 12 * 1024  # holds the longest read-out with its history, which the others read too

X25_TABLE = crc_table(CCITT)
GCM_SCRIPT = Path(__file__).parent / "micropython" / "on_micropython" / "gcm_vectors.py"
ON_THE_LINE = (  # telegram, its bytes, those enciphered, the line
    ("optical", 105, 74, Line(9600)),
    ("M-Bus", 282, 243, Line(2400, 8, "E")),
)

Decode = Callable[[bytes], int]  # one telegram in, the number of values in it out


class Push(bytes):
    """A DLMS telegram with what its reader is told, how many registers it has and what its tree's numbers add up to."""

    framing: str  # hdlc, gbt (blocks in HDLC), mbus, wrapper or raw
    key: bytes | None = None
    auth_key: bytes | None = None
    tagged = False
    registers = 0
    total: int | None = None  # None: not known


# --- the decoders ----------------------------------------------------------------------------------------------------


def values_of(listener: Listener, telegram: bytes) -> int:
    n = at = 0
    while at < len(telegram):
        at += listener.feed(telegram, at, len(telegram))
        while (event := listener.next_event()) != NOTHING:
            if event == TELEGRAM:
                for reading in listener.readings():
                    if reading.address is None:  # where the meter prints, the text is there already
                        reading.text()
                    n += 1
    return n


def ours_reused(make: Callable[[], Listener]) -> Decode:
    """A listener for each telegram, as each is of another meter; it has had the telegram before."""
    listeners: dict[bytes, Listener] = {}

    def decode(telegram: bytes) -> int:
        listener = listeners.get(telegram)
        if listener is None:
            listener = listeners[telegram] = make()
            values_of(listener, telegram)
        return values_of(listener, telegram)

    return decode


def ours_made_anew(make: Callable[[], Listener]) -> Decode:
    return lambda telegram: values_of(make(), telegram)


def ours(make: Callable[[], Listener]) -> tuple[Decode, Decode]:
    return ours_reused(make), ours_made_anew(make)


def with_history(size: int) -> Callable[[], Listener]:
    def make() -> Listener:
        listener = iec62056_21.Iec62056_21(size)
        listener.history = True
        return listener

    return make


def _smllib_value(entry) -> int:
    if entry.value is None:
        return 0
    if isinstance(entry.value, int):
        entry.get_value()
    return 1


def smllib_full() -> Decode:
    from smllib import SmlStreamReader

    def decode(telegram: bytes) -> int:
        stream = SmlStreamReader()
        stream.add(telegram)
        bodies = [message.message_body for message in stream.get_frame().parse_frame()]
        return sum(_smllib_value(entry) for body in bodies for entry in getattr(body, "val_list", ()))

    return decode


def smllib_get_obis() -> Decode:
    """Its short cut: looks for list entries without parsing the messages, and leaves out those of makers' own codes."""
    from smllib import SmlStreamReader

    def decode(telegram: bytes) -> int:
        stream = SmlStreamReader()
        stream.add(telegram)
        return sum(_smllib_value(entry) for entry in stream.get_frame().get_obis())

    return decode


def pysml_full() -> Decode:
    """Checks each message's CRC too."""
    from sml import SmlBase

    def decode(telegram: bytes) -> int:
        n = 0
        for message in SmlBase.find_frame(telegram)[1] or ():
            body = message["messageBody"]
            if isinstance(body, dict):
                n += sum("value" in entry for entry in body.get("valList", ()))
        return n

    return decode


DSMR_KINDS = {  # by how the telegram begins; the others by the version they name
    b"/FLU": "BELGIUM_FLUVIUS",
    b"/Lux": "LUXEMBOURG_SMARTY",
    b"/EST": "SAGEMCOM_T210_D_R",
    b"/KAM": "SWEDEN",
    b"/LGF": "SWEDEN",
    b"/ELL": "SWEDEN",
    b"/NES": "SWEDEN",
    b"/SAG": "EON_HUNGARY",
}


def dsmr_parser() -> Decode:
    """Its parser for the kind of meter, made once for each kind. Checks the CRC; gives the registers the kind has."""
    from dsmr_parser import telegram_specifications
    from dsmr_parser.parsers import TelegramParser

    parsers: dict[str, TelegramParser] = {}

    def decode(telegram: bytes) -> int:
        kind = DSMR_KINDS.get(telegram[:4]) or ("V5" if b"0.2.8(5" in telegram else "V4")
        parser = parsers.get(kind)
        if parser is None:
            known = dict(getattr(telegram_specifications, kind))
            known.pop("general_global_cipher", None)
            parser = parsers[kind] = TelegramParser(known)
        return sum(len(o) if isinstance(o, list) else 1 for o in parser.parse(telegram.decode("latin-1")))

    return decode


def iec62056_21_client() -> Decode:
    """Its messages for what the meter answers. Checks the BCC."""
    from iec62056_21.messages import AnswerDataMessage, IdentificationMessage, ReadoutDataMessage

    def decode(telegram: bytes) -> int:
        at = telegram.index(b"\x02")
        IdentificationMessage.from_representation(telegram[:at].decode("latin-1"))
        block = telegram[at:].decode("latin-1")
        message = (ReadoutDataMessage if "!" in block else AnswerDataMessage).from_representation(block)
        return sum(len(line.data_sets) for line in message.data_block.data_lines)

    return decode


def dlms_listener(telegram: bytes) -> Listener:
    assert isinstance(telegram, Push)
    listener = dlms.Dlms()
    listener.set_keys(telegram.key, telegram.auth_key)
    return listener


def dlms_reused() -> Decode:
    """The same with the telegram's keys."""
    listeners: dict[bytes, Listener] = {}

    def decode(telegram: bytes) -> int:
        listener = listeners.get(telegram)
        if listener is None:
            listener = listeners[telegram] = dlms_listener(telegram)
            values_of(listener, telegram)
        return values_of(listener, telegram)

    return decode


def hdlc_parts(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """(information, is it the last segment?) of the frames whose FCS holds."""
    at = 0
    while at + 9 < len(data):
        end = at + 1 + ((data[at + 1] & 7) << 8 | data[at + 2])
        whole = data[at] == 0x7E and data[at + 1] & 0xF0 == 0xA0 and end < len(data)
        if not whole or crc16(data[at + 1 : end], X25_INIT, X25_TABLE) != 0xF0B8:
            at += 1
            continue
        info = at + 3
        for _ in range(2):  # addresses
            while not data[info] & 1:
                info += 1
            info += 1
        yield data[info + 3 : end - 2], not data[at + 1] & 0x08
        at = end


def mbus_parts(data: bytes) -> Iterator[tuple[bytes, bool]]:
    """The same of the M-Bus frames whose checksum holds."""
    at = 0
    while at + 9 < len(data):
        end = at + 4 + data[at + 1]
        if data[at] != 0x68 or end >= len(data) or sum(data[at + 4 : end]) & 0xFF != data[end]:
            at += 1
            continue
        yield data[at + 9 : end], bool(data[at + 6] & 0x10)
        at = end + 2


def apdus_in_frames(telegram: Push) -> Iterator[bytes]:
    """The APDUs in a telegram, for decoders that know no frames or not these."""
    if telegram.framing in ("raw", "wrapper"):
        apdu = telegram[8:] if telegram.framing == "wrapper" else bytes(telegram)
        yield apdu[3:] if apdu[:2] == b"\xe6\xe7" else apdu
        return
    gathered = blocks = b""
    for part, last in mbus_parts(telegram) if telegram.framing == "mbus" else hdlc_parts(telegram):
        gathered += part
        if not last or not gathered:
            continue
        apdu, gathered = gathered[3:] if gathered[:2] == b"\xe6\xe7" else gathered, b""
        if apdu[0] == 0xE0:
            length, start = ber_length(apdu, 6, len(apdu))
            blocks = (b"" if apdu[2:4] == b"\x00\x01" else blocks) + apdu[start : start + length]
            if not apdu[1] & 0x80:
                continue
            apdu = blocks
        yield apdu


def judged(telegram: Push, trees: list[Any]) -> int:
    """How many registers the telegram has if the numbers in its trees are the right ones, else 0."""
    total = 0
    todo = trees
    while todo:
        value = todo.pop()
        if isinstance(value, (list, tuple)):
            todo.extend(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            total += value
    return telegram.registers if total == telegram.total or telegram.total is None else 0


def gurux_dlms() -> Decode:
    """Its client, made once for each framing and keys. It does not go on after a first M-Bus frame: gets the APDU."""
    from gurux_dlms import GXByteBuffer, GXReplyData
    from gurux_dlms.enums import InterfaceType, Security
    from gurux_dlms.secure import GXDLMSSecureClient

    interfaces = {
        "hdlc": InterfaceType.HDLC,
        "gbt": InterfaceType.HDLC,
        "wrapper": InterfaceType.WRAPPER,
        "raw": InterfaceType.PDU,
        "mbus": InterfaceType.PDU,
    }
    clients: dict[Any, GXDLMSSecureClient] = {}

    def decode(telegram: bytes) -> int:
        assert isinstance(telegram, Push)
        told = telegram.framing, telegram.key, telegram.auth_key
        client = clients.get(told)
        if client is None:
            client = clients[told] = GXDLMSSecureClient(True, interfaceType=interfaces[telegram.framing])
            if telegram.key:
                client.ciphering.security = Security.ENCRYPTION
                client.ciphering.blockCipherKey = telegram.key
            if telegram.auth_key:
                client.ciphering.security = Security.AUTHENTICATION_ENCRYPTION
                client.ciphering.authenticationKey = telegram.auth_key
        trees = []
        for part in apdus_in_frames(telegram) if telegram.framing in ("raw", "mbus") else (telegram,):
            buffer, pushed = GXByteBuffer(part), GXReplyData()
            while buffer.position < buffer.size:
                at = buffer.position
                client.getData(buffer, GXReplyData(), pushed)
                if pushed.isComplete() and not pushed.isMoreData() and pushed.value is not None:
                    trees.append(pushed.value)
                    pushed = GXReplyData()
                if buffer.position == at:
                    break
        return judged(telegram, trees)

    return decode


def dlms_cosem() -> Decode:
    """From the APDU on: its HDLC frames know no push with client addresses of two bytes, nor blocks."""
    from dlms_cosem.protocol.xdlms import DataNotification, GeneralGlobalCipher
    from dlms_cosem.utils import parse_as_dlms_data

    def decode(telegram: bytes) -> int:
        assert isinstance(telegram, Push)
        trees = []
        for apdu in apdus_in_frames(telegram):
            if telegram.key:
                ciphered = GeneralGlobalCipher.from_bytes(apdu)
                apdu = ciphered.to_plain_apdu(telegram.key, telegram.auth_key)
            trees.append(parse_as_dlms_data(DataNotification.from_bytes(apdu).body))
        return judged(telegram, trees)

    return decode


OURS, OURS_ANEW = "optoprobe", "optoprobe, a listener made for each"


@dataclass
class Contest:
    """One table: `decoders` are name -> (how it is made, its package), `base` the one of them we measure ourselves by.

    `partial` need only not refuse a telegram, and are counted so where only ours counts values as we do
    (`alike` False); `speed` and `memory` are the aims against `base`, memory by `by`; `speeds` those against others.
    """

    what: str
    ours: tuple[Decode, Decode]  # with a listener made once, and with one made for each telegram
    decoders: dict[str, tuple[Callable[[], Decode], str]]
    base: str
    partial: tuple[str, ...]
    given: list[tuple[bytes, int]]  # telegram, number of values
    source: str
    speed: float = 0.0
    memory: float = 0.0
    by: str = OURS
    buffer_bytes: int = 0
    alike: bool = False
    speeds: tuple[tuple[str, float], ...] = ()


def contests() -> list[Contest]:
    real = CORPUS.is_dir(), IEC_CORPUS.is_dir()
    sources = ["real captures" if found else "simulated meters" for found in real]
    p1, framed = iec_from_corpus() if real[1] else iec_simulated()
    return [
        Contest(
            "SML",
            ours(sml.LISTENER),
            {
                "smllib": (smllib_full, "smllib"),
                "smllib get_obis": (smllib_get_obis, "smllib"),
                "pysml": (pysml_full, "pysml"),
            },
            "smllib",
            ("smllib get_obis",),
            from_corpus() if real[0] else simulated(),
            sources[0],
            8,
            1 / 4,
            OURS_ANEW,
            sml.BUFFER_SIZE,
            alike=True,
        ),
        Contest(
            "IEC 62056-21, P1 telegrams",
            ours(with_history(iec62056_21.BUFFER_SIZE)),  # every value, as the others
            {"dsmr-parser": (dsmr_parser, "dsmr-parser")},
            "dsmr-parser",
            ("dsmr-parser",),
            p1,
            sources[1],
            5,
            1 / 4,
            OURS,
            iec62056_21.BUFFER_SIZE,
        ),
        Contest(
            "IEC 62056-21, framed read-outs",
            ours(with_history(IEC_BUFFER)),
            {"iec62056-21": (iec62056_21_client, "iec62056-21")},
            "iec62056-21",
            ("iec62056-21",),
            framed,
            sources[1],
            1.5,
            1 / 4,
            buffer_bytes=IEC_BUFFER,
        ),
        *dlms_contests(),
    ]


def dlms_contests() -> list[Contest]:
    real = DLMS_CORPUS.is_dir()
    given = dlms_from_corpus() if real else dlms_simulated()
    gurux = {"gurux-dlms": (gurux_dlms, "gurux-dlms")}
    both = gurux | {"dlms-cosem": (dlms_cosem, "dlms-cosem")}
    sets: list[tuple[str, Any, list[Push], float, tuple[tuple[str, float], ...]]] = [
        ("plain", both, [push for push in given if not push.key], 1, (("dlms-cosem", 2.5),)),
        ("encrypted", gurux, [push for push in given if push.key], 5, ()),
        (
            "encrypted, with a tag",
            both,
            [push for push in given if push.key and push.tagged],
            5,
            (("dlms-cosem", 1.5),),
        ),
    ]
    return [
        Contest(
            f"DLMS, {what}",
            (dlms_reused(), lambda telegram: values_of(dlms_listener(telegram), telegram)),
            decoders,
            "gurux-dlms",
            (),
            [(push, push.registers) for push in pushes],
            "the corpus" if real else "simulated meters",
            speed,
            buffer_bytes=dlms.BUFFER_SIZE,
            alike=True,
            speeds=speeds,
        )
        for what, decoders, pushes, speed, speeds in sets
    ]


# --- the telegrams ---------------------------------------------------------------------------------------------------


def dlms_from_corpus() -> list[Push]:
    """Every telegram of the corpus whose readings are known, and whose key is where it needs one."""
    found = []
    for path in sorted(DLMS_CORPUS.glob("*.expected.json")):
        facts = json.loads(path.read_text())
        registers = sum(len(telegram["readings"]) for telegram in facts["telegrams"])
        if not facts["valid"] or facts.get("needs_key") or facts.get("inner") or not registers:
            continue
        push = Push.fromhex(path.with_name(path.name.replace(".expected.json", ".hex")).read_text())
        push.framing, push.registers = facts["framing"], registers
        push.key, push.auth_key = (bytes.fromhex(facts.get(name) or "") or None for name in ("key", "auth_key"))
        push.tagged = bool((facts.get("security_control") or 0) & 0x10)
        push.total = sum(sum_of(telegram["axdr"]) for telegram in facts["telegrams"])
        found.append(push)
    return found


def sum_of(tree: Any) -> int:
    """Of the numbers in a tree of [type, value], where the values of what contains others are lists of these."""
    if not isinstance(tree, list) or len(tree) != 2:
        return 0
    kind, value = tree
    if isinstance(value, list):
        return sum(map(sum_of, value))
    return value if str(kind).startswith(("int", "uint", "enum")) else 0


def dlms_simulated() -> list[Push]:
    """The same from simulated meters."""
    found = []
    for kind in ("optical", "hdlc", "mbus", "gbt"):
        for security in (0x00, 0x20, 0x30):
            meter = DlmsMeter(kind, security=security)
            push = Push(meter.telegram(60))
            push.framing, push.registers, push.tagged = meter.framing, len(meter.expected()), security == 0x30
            if security:
                push.key, push.auth_key = meter.key, meter.auth_key
            found.append(push)
    return found


def from_corpus() -> list[tuple[bytes, int]]:
    """(telegram, number of values) of every real capture."""
    found = []
    for path in sorted(CORPUS.glob("*.expected.json")):
        name = path.name.removesuffix(".expected.json")
        if name.startswith(("synthetic", "derived")):
            continue
        data = path.with_name(name + ".bin").read_bytes()
        for telegram in json.loads(path.read_text())["telegrams"]:
            if telegram["crc_ok"]:
                n = sum(reading["type"] != "null" for reading in telegram["readings"])
                found.append((data[telegram["offset"] :][: telegram["length"]], n))
    return found


def simulated() -> list[tuple[bytes, int]]:
    """The same from simulated meters, some with each quirk."""
    found = []
    for quirk in QUIRKS:
        meter = SmlMeter(1, quirks=[quirk])
        for second in range(4):
            telegram = meter.telegram(60 * second)
            found.append((telegram, len(meter.expected())))
    return found


def iec_from_corpus() -> tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]:
    """(P1 telegrams with a CRC, framed read-outs) of every real capture, with the number of values of each."""
    found: dict[str, list[tuple[bytes, int]]] = {"crc16": [], "bcc": []}
    for path in sorted(IEC_CORPUS.glob("*.expected.json")):
        name = path.name.removesuffix(".expected.json")
        if "derived" in name:
            continue
        data = path.with_name(name + ".bin").read_bytes()
        for telegram in json.loads(path.read_text())["telegrams"]:
            if telegram["check_ok"]:
                n = sum(len(reading["values"]) for reading in telegram["readings"])
                sent = data[telegram["offset"] :][: telegram["length"]]
                kind = telegram["check"]["type"]
                found[kind].append((sent.rstrip() + b"\r\n" if kind == "crc16" else sent, n))
    return found["crc16"], found["bcc"]


def iec_simulated() -> tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]]:
    """The same from simulated meters."""
    p1, framed = [], []
    for seed in range(8):
        pushing = IecMeter("P1", seed=seed)
        telegram = pushing.telegram(60)
        p1.append((telegram, len(pushing.expected())))
        asked = IecMeter("C", seed=seed, full=bool(seed % 2), history=seed % 3)
        block, expected = asked.block(60)
        framed.append((asked.identification() + block, len(expected)))
    return p1, framed


class Nowhere(io.TextIOBase):
    """Where gurux-dlms prints to of every encrypted telegram; a terminal or a file would cost it time."""

    def write(self, text: str) -> int:
        return len(text)


def values_read(decode: Decode, telegram: bytes) -> int | None:
    """How many values come out; None where the decoder refuses the telegram."""
    try:
        return decode(telegram)
    except Exception:  # whatever it raises: it did not read it
        return None


# --- measuring -------------------------------------------------------------------------------------------------------


def seconds_for_all(decode: Decode, telegrams: list[bytes], repeats: int) -> float:
    begun = time.process_time()
    for _ in range(repeats):
        for telegram in telegrams:
            decode(telegram)
    return (time.process_time() - begun) / repeats


def timed(decoders: dict[str, Decode], telegrams: list[bytes], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds for all telegrams once, a figure a round."""
    repeats = {
        name: max(1, round(seconds / seconds_for_all(decode, telegrams, 1))) for name, decode in decoders.items()
    }
    times: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, decode in decoders.items():
            times[name].append(seconds_for_all(decode, telegrams, repeats[name]))
    return times


def peaks(decode: Decode, telegrams: list[bytes]) -> list[int]:
    """Peak bytes while each telegram is decoded."""
    found = []
    for telegram in telegrams:
        decode(telegram)  # what is made once and kept is not the telegram's
        tracemalloc.start()
        decode(telegram)
        found.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return found


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def compare(contest: Contest, rounds: int, seconds: float) -> None:
    decoders: dict[str, Decode] = dict(zip((OURS, OURS_ANEW), contest.ours, strict=True))
    for name, (make, _) in contest.decoders.items():
        try:
            decoders[name] = make()
        except ImportError as error:
            print(f"{name} is left out ({error}): run make bench, which installs it")
    given = contest.given
    with contextlib.redirect_stdout(Nowhere()):
        read = {name: [values_read(decode, telegram) for telegram, _ in given] for name, decode in decoders.items()}
    taken = {name: {k for k in range(len(given)) if read[name][k]} for name in contest.partial if name in decoders}
    right = {name: {k for k, (_, n) in enumerate(given) if read[name][k] == n} for name in decoders}
    usable = [taken.get(name, right[name]) for name in decoders]
    shown = right if contest.alike else right | taken
    telegrams = [given[k][0] for k in sorted(set.intersection(*usable))]
    if not telegrams:
        raise SystemExit("There is no telegram that every decoder reads rightly, so nothing can be compared.")

    with contextlib.redirect_stdout(Nowhere()):
        times = timed(decoders, telegrams, rounds, seconds)
        peak = {name: peaks(decode, telegrams) for name, decode in decoders.items()}
    median = {name: statistics.median(found) for name, found in times.items()}
    base = contest.base if contest.base in decoders else OURS

    print(
        f"\n{contest.what}: {len(telegrams)} telegrams of {len(given)} from {contest.source}, those that all read; "
        f"{sum(map(len, telegrams)) / len(telegrams):.0f} bytes on average. Medians of {rounds} rounds.\n"
    )
    rows = []
    for name in decoders:
        package = contest.decoders[name][1] if name in contest.decoders else None
        memory = statistics.median(peak[name])
        rows.append(
            [
                f"{name} ({version(package)})" if package else name,
                f"{len(shown[name])}/{len(given)}",
                f"{median[name] / len(telegrams) * 1e6:.1f}",
                f"{len(telegrams) / median[name]:,.0f}",
                f"{median[base] / median[name]:.2f}",
                f"{(max(times[name]) - min(times[name])) / median[name] * 100:.0f} %",
                f"{memory / 1024:.2f}",
                f"{max(peak[name]) / 1024:.2f}",
                f"{memory / statistics.median(peak[base]):.3f}",
            ]
        )
    print(
        table(
            ["decoder", "reads rightly" if contest.alike else "reads", "us a telegram", "telegrams/s"]
            + [f"speed / {base}", "spread", "peak KiB, median", "peak KiB, most", f"memory / {base}"],
            rows,
        )
    )
    print(f"\nMemory of ours with a listener made for each includes its buffer of {contest.buffer_bytes} bytes.")
    if base != OURS and contest.speed:
        print(verdict(contest, median, peak))


def verdict(contest: Contest, median: dict[str, float], peak: dict[str, list[int]]) -> str:
    """Whether the aims hold by the figures just measured."""
    said = []
    for name, aim in ((contest.base, contest.speed), *contest.speeds):
        if name in median:
            speed = median[name] / median[OURS]
            holds = "holds" if speed >= aim else "does NOT hold"
            said.append(f"{aim:g}x {name}'s telegrams a second: {holds} ({speed:.2f}x).")
    if contest.memory:
        ours, theirs = peak[contest.by], peak[contest.base]
        memory = max(statistics.median(ours) / statistics.median(theirs), max(ours) / max(theirs))
        holds = "holds" if memory <= contest.memory else "does NOT hold"
        said.append(f"1/{1 / contest.memory:.0f} of its peak memory ({contest.by}): {holds} ({memory:.3f} of it).")
    return " ".join(said)


# --- beside the core as it was ---------------------------------------------------------------------------------------

LANDED = "d2e786a"
SPEED_SCRIPT = core_on_micropython.SCRIPTS / "speed.py"
SPEED_RUNS = 3


def landed_core(folder: Path) -> Path:
    """The core of commit LANDED as sources; raises CalledProcessError where git does not have it."""
    packed = subprocess.run(
        ("git", "-c", "safe.directory=*", "archive", LANDED, "lib"), cwd=runtime.REPO, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tree:
        tree.extractall(folder, filter="data")
    return folder / "lib"


def compiled_core(sources: Path, folder: Path) -> Path:
    for source in sorted((sources / "metering").rglob("*.py")):
        target = folder / source.relative_to(sources).parent
        target.mkdir(parents=True, exist_ok=True)
        device_tree.install(source, target)
    return folder


def beside_landed(found: list[Contest], rounds: int) -> None:
    """Prints what each contest's telegrams take by the core of LANDED and by today's, on both Pythons."""
    print(f"\nBeside commit {LANDED}: best processor time of {SPEED_RUNS * rounds} rounds, us a telegram.\n")
    settings = {
        "SML": ("sml", 0, 0),
        "IEC 62056-21, P1 telegrams": ("iec62056-21", iec62056_21.BUFFER_SIZE, 1),
        "IEC 62056-21, framed read-outs": ("iec62056-21", IEC_BUFFER, 1),
        "DLMS, plain": ("dlms", 0, 0),
        "DLMS, encrypted, with a tag": ("dlms", 0, 0),
    }
    with tempfile.TemporaryDirectory() as named:
        folder = Path(named)
        landed = landed_core(folder / "landed")
        micropython = [str(runtime.micropython()), "-X", "heapsize=8m"]
        core_on_micropython.install(folder / "now_compiled")
        path_of_now = f"{folder / 'now_compiled'}:.frozen"
        path_of_landed = f"{compiled_core(landed, folder / 'landed_compiled')}:.frozen"
        sides = {
            ("CPython", LANDED): ([sys.executable], {"PYTHONPATH": str(landed)}),
            ("CPython", "now"): ([sys.executable], {"PYTHONPATH": str(runtime.REPO / "lib")}),
            ("MicroPython", LANDED): (micropython, {"MICROPYPATH": path_of_landed}),
            ("MicroPython", "now"): (micropython, {"MICROPYPATH": path_of_now}),
        }
        rows = []
        for contest in found:
            if contest.what not in settings:
                continue
            place = folder / "".join(filter(str.isalnum, contest.what))
            place.mkdir()
            names = []
            for k, (telegram, _) in enumerate(contest.given):
                (place / str(k)).write_bytes(telegram)
                names.append(str(k))
                if isinstance(telegram, Push) and telegram.key:
                    keys = [key.hex() if key else "-" for key in (telegram.key, telegram.auth_key)]
                    (place / f"{k}.keys").write_text(" ".join(keys))
            words = [str(SPEED_SCRIPT), *map(str, settings[contest.what]), str(rounds), *names]
            best = dict.fromkeys(sides, float("inf"))
            for _ in range(SPEED_RUNS):
                for side, (command, environment) in sides.items():
                    done = subprocess.run(
                        [*command, *words],
                        cwd=place,
                        env=os.environ | environment,
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                    taken = done.stdout.split()[1:]
                    best[side] = min(best[side], *(int(us) / len(names) for us in taken))
            row = [contest.what, str(len(names))]
            for python in ("CPython", "MicroPython"):
                before, now = best[python, LANDED], best[python, "now"]
                row += [f"{before:.0f}", f"{now:.0f}", f"{before / now:.2f}"]
            rows.append(row)
    header = ["telegrams", "of them", f"CPython, {LANDED}", "now", "speed", f"MicroPython, {LANDED}", "now", "speed"]
    print(table(header, rows))


# --- on the line -----------------------------------------------------------------------------------------------------


def gcm_vector(n: int) -> str:
    """A line for gcm_vectors.py: n bytes enciphered, with the tag of a telegram."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key, nonce, aad, plain = bytes(range(16)), bytes(range(12)), bytes(range(17)), bytes(k & 0xFF for k in range(n))
    sent = AESGCM(key).encrypt(nonce, plain, aad)
    return " ".join(part.hex() for part in (key, nonce, aad, sent[:-16], sent[-16:-4], plain)) + "\n"


def share_of_the_line(rounds: int) -> None:
    """Prints what tag and decryption take on MicroPython, and of the time in which the telegram comes."""
    print("\nDLMS on MicroPython, core as bytecode, on this machine; shares are of the telegram's time on the line:\n")
    try:
        program = runtime.micropython()
    except runtime.SetupError as error:
        print(f"left out ({error})")
        return
    with tempfile.TemporaryDirectory() as named:
        core_on_micropython.install(Path(named))
        vectors = Path(named) / "vectors"
        environment = os.environ | {"MICROPYPATH": f"{named}:.frozen"}
        command = [str(program), "-X", "heapsize=64k", str(GCM_SCRIPT), str(vectors), "figures"]
        for what, n, enciphered, line in ON_THE_LINE:
            vectors.write_text(gcm_vector(enciphered))
            runs = []
            for _ in range(rounds):
                out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                runs.append({name: int(number) for name, number in map(str.split, out.splitlines())})
            tag, decryption = (statistics.median(run[name] for run in runs) for name in ("tag_us", "decrypt_us"))
            on_line = n * bits_of(line) * 1e6 / line.baud
            print(
                f"{what}, {n} bytes, {enciphered} of them enciphered, {on_line / 1000:.1f} ms on the line at {line}: "
                f"tag {tag:.0f} us, {tag / on_line:.3%}; decryption {decryption:.0f} us, {decryption / on_line:.3%}; "
                f"garbage {runs[0]['tag_garbage_bytes'] + runs[0]['decrypt_garbage_bytes']} bytes"
            )


def bits_of(line: Line) -> int:
    """Of a byte on the line, with start and stop."""
    return 1 + line.bits + (line.parity is not None) + line.stop


def main() -> None:
    arguments = argparse.ArgumentParser(description="Times our decoders beside others on the same telegrams.")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--seconds", type=float, default=0.3, help="for each decoder in each round")
    arguments.add_argument("--only", choices=("peers", "landed"))
    chosen = arguments.parse_args()
    logging.disable(logging.CRITICAL)  # pysml and dsmr-parser log what they refuse
    print(f"Machine: {cpu()}, {os.cpu_count()} CPUs; {platform.platform()}; Python {platform.python_version()}")
    found = contests()
    if chosen.only != "landed":
        for contest in found:
            compare(contest, chosen.rounds, chosen.seconds)
    if chosen.only != "peers":
        try:
            beside_landed(found, chosen.rounds)
        except (subprocess.CalledProcessError, runtime.SetupError) as error:
            print(f"left out ({error})")
    if not chosen.only:
        share_of_the_line(chosen.rounds)


if __name__ == "__main__":
    main()
