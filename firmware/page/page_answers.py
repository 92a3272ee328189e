"""What the page and scripts are told, sent as it is made: readings, status, metrics (docs/page.md), a capture.

Values are texts, digit for digit as they go to the broker. Nothing here knows a setting, but for the probe's name.
"""

import json
import os

from micropython import const

from firmware import VERSION
from firmware.page.page_members import NO_POINT, members
from firmware.page.page_request import JSON, TEXT, Refused
from metering.register import CUMULATIVE, INSTANTANEOUS
from metering.unload import unload

_CAPTURE_FILE = "capture.txt"
_PIECE = const(128)
_NEWLINE = const(0x0A)
_BLANK = const(0x20)
_ZERO = const(0x30)
_NINE = const(0x39)


async def answer(door, exchange, session):
    """Answer a GET; `session` is None for a script."""
    path = exchange.path
    if path == "/metrics":
        await _send_metrics(door, exchange)
    elif path == "/api/log":
        await _send_log(exchange)
    elif path == "/api/capture":
        await _send_capture(door, exchange, exchange.query == "full")
    else:
        await exchange.begin(200, JSON)
        await exchange.send(('{"name": %s, "version": "%s"' % (json.dumps(door.probe_name), VERSION)).encode())
        if path == "/api/readings":
            await _send_readings(door, exchange)
        else:
            await _send_status(door, exchange, session)
        await exchange.send(b"}\n")


def _live_age_s(door, meter):
    """Age of the instantaneous values, None where they are unknown by now."""
    age_s = door.services.health.uptime_s - door.live_s
    return age_s if meter and door.live_s >= 0 and age_s <= meter.live_expires_s else None


def _readings(door):
    """Yields (register or None, key, value), bytes with JSON's escapes; a light or a count has no register."""
    meter = door.outbox.meter()
    if meter is None:
        return
    announcer = door.services.announcer
    payloads = [door.outbox.last(announcer.state_topic(meter))]  # both of one telegram, whatever comes meanwhile
    if _live_age_s(door, meter) is not None:
        payloads.append(door.outbox.last(announcer.live_topic(meter)))
    for payload in payloads:
        for key, text in members(payload):
            name = key.decode()
            found = None
            for register in meter.registers:
                if register.key == name:
                    found = register
            yield found, key, text


async def _send_readings(door, exchange):
    meter = door.outbox.meter()
    age = _live_age_s(door, meter)
    await exchange.send(b', "live_age_s": %s, "meter": ' % (b"null" if age is None else b"%d" % age))
    if meter is None:
        await exchange.send(b"null")
    else:
        about = {"id": meter.meter_id, "serial": meter.serial, "maker": meter.maker, "model": meter.model}
        await exchange.send(json.dumps(about).encode())
    opening = b', "readings": {'
    for register, key, text in _readings(door):
        name = register.name() if register else key.decode().replace("_", " ")
        unit = json.dumps(register.symbol() if register else None)
        line = b'%s"%s": {"name": %s, "value": "%s", "unit": %s}'
        await exchange.send(line % (opening, key, json.dumps(name).encode(), text, unit.encode()))
        opening = b",\n"
    await exchange.send(b"}" if opening == b",\n" else opening + b"}")


async def _send_status(door, exchange, session):
    services = door.services
    now_s = services.health.uptime_s
    await exchange.send((', "id": "%s"' % services.network.probe_id).encode())
    opening = b', "counts": {'
    for key, value in door.diagnostics.counts().items():
        await exchange.send(b'%s"%s": %s' % (opening, key.encode(), json.dumps(value).encode()))
        opening = b", "
    points = ["null" if point == NO_POINT else "%d" % point for point in door.graph]
    await exchange.send(('}, "graph": [%s]' % ", ".join(points)).encode())
    notices = [[now_s - at_s, sentence] for at_s, sentence in door.notices]
    await exchange.send((', "notices": ' + json.dumps(notices)).encode())
    await exchange.send(b', "alignment": ' + (door.outbox.last(services.announcer.topic("alignment")) or b"null"))
    driver = services.driver
    is_busy = driver is not None and driver.interceptor is not None
    try:
        size = os.stat(_CAPTURE_FILE)[6]
    except OSError:
        size = 0
    capture = ', "is_connected": %s, "tool_runs": %s, "capture_bytes": %d'
    await exchange.send((capture % (_json(services.network.opened_s is not None), _json(is_busy), size)).encode())
    if session:
        await exchange.send(b', "token": "%s"' % session[1].encode())


async def _send_log(exchange):
    from firmware.hardware import log_ring

    unload("firmware.hardware.log_ring")
    await exchange.begin(200, JSON)
    for piece in log_ring.pieces(log_ring.kept()):
        await exchange.send(piece)


def _json(truth):
    return "true" if truth else "false"


def _is_number(text):
    """Is `text` (bytes) a plain decimal?"""
    digits = text[1:] if text[:1] == b"-" else text
    whole, _, rest = digits.partition(b".")
    return whole.isdigit() and (rest.isdigit() or not rest)


def _label(text):
    """`text` as the value of a label (Prometheus' text format, 0.0.4)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


async def _send_metrics(door, exchange):
    await exchange.begin(200, "text/plain; version=0.0.4; charset=utf-8")
    meter = door.outbox.meter()
    name = _label(meter.meter_id) if meter else ""
    for kind, family, words in (
        (CUMULATIVE, "counter", "optoprobe_meter_total"),
        (INSTANTANEOUS, "gauge", "optoprobe_meter_value"),
    ):
        await exchange.send(b"# TYPE %s %s\n" % (words.encode(), family.encode()))
        for register, key, text in _readings(door):
            if register and register.kind == kind and _is_number(text):
                labels = 'meter="%s",register="%s",unit="%s"' % (name, key.decode(), _label(register.symbol() or ""))
                await exchange.send(("%s{%s} %s\n" % (words, labels, text.decode())).encode())
    counts = door.diagnostics.counts()
    about = 'version="%s",name="%s",protocol="%s"'
    about = about % (VERSION, _label(door.probe_name), door.meter.protocol if door.meter else "")
    await exchange.send(("# TYPE optoprobe_info gauge\noptoprobe_info{%s} 1\n" % about).encode())
    for key, value in counts.items():
        if isinstance(value, dict):
            await exchange.send(("# TYPE optoprobe_probe_%s gauge\n" % key).encode())
            for reason, n in value.items():
                await exchange.send(('optoprobe_probe_%s{reason="%s"} %d\n' % (key, _label(reason), n)).encode())
        elif isinstance(value, int) and not isinstance(value, bool):
            line = "# TYPE optoprobe_probe_%s gauge\noptoprobe_probe_%s %d\n" % (key, key, value)
            await exchange.send(line.encode())


async def _send_capture(door, exchange, is_full):
    """The capture that lies there; masked, each digit of what the meter has sent is a 0: lengths and times are left."""
    driver = door.services.driver
    if driver is not None and driver.interceptor is not None:
        raise Refused(409, "it is being recorded")
    try:
        with open(_CAPTURE_FILE, "rb") as file:
            await exchange.begin(200, TEXT, b'Content-Disposition: attachment; filename="capture.txt"\r\n')
            is_data = is_behind = False  # a line of bytes; behind its time
            is_first = True
            while True:
                piece = file.read(_PIECE)
                if not piece:
                    return
                if not is_full:
                    piece = bytearray(piece)
                    for at in range(len(piece)):
                        byte = piece[at]
                        if byte == _NEWLINE:
                            is_first = True
                        elif is_first:
                            is_data = _ZERO <= byte <= _NINE
                            is_behind = is_first = False
                        elif byte == _BLANK:
                            is_behind = True
                        elif is_data and is_behind:
                            piece[at] = _ZERO
                await exchange.send(piece)
    except OSError:
        raise Refused(404, "there is no capture yet")
