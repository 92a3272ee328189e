"""What the page does: it leaves commands where the broker's are left, so that both do the same."""

import asyncio

from micropython import const

from firmware.owner import owner_actions
from firmware.page.page_request import JSON, Refused

_ANSWERED_MS = const(500)  # for an answer to have left before the chip restarts


def _command(door, name, payload):
    """Leave a command as if it had come by MQTT. Raises Refused where it is too early."""
    mailbox = door.services.network.mailbox
    before = sum(mailbox.ignored.values())
    mailbox.put_command(door.services.announcer.topic(name, "set"), payload, False, door.services.health.uptime_s, 0)
    if sum(mailbox.ignored.values()) != before:
        raise Refused(429, "too often: wait a little", 60)


async def _accept(exchange):
    await exchange.begin(200, JSON)
    await exchange.send(b'{"accepted": true}')


async def act(door, exchange, session):
    """Do what a POST asks for."""
    given = await exchange.read_object()
    action = exchange.path[5:]
    if action == "wipe":
        name = door.services.network.probe_id
        if given.get("name") != name:
            raise Refused(400, "name: the probe's id, which is " + name)
        _command(door, "order", ("wipe=" + name).encode())
        await _accept(exchange)
    elif action == "logout":
        if session in door.sessions:  # else another request was first
            door.sessions.remove(session)
        await _accept(exchange)
    elif action in ("restart", "search"):
        refusal = ""
        if action == "search":
            refusal = owner_actions.search_refusal(door.services.network.settings["protocol"])
        if refusal:
            raise Refused(409, refusal)
        await _accept(exchange)
        exchange.close()
        await asyncio.sleep_ms(_ANSWERED_MS)
        if action == "search":
            owner_actions.forget_meter()
        owner_actions.restart()
    else:
        if door.meter is None:
            raise Refused(409, "no meter is read")
        if action == "alignment":
            is_on = given.get("on")
            if not isinstance(is_on, bool):
                raise Refused(400, "on: true or false")
            payload = b"ON" if is_on else b"OFF"
        else:
            seconds = given.get("seconds", 30)
            if isinstance(seconds, bool) or not isinstance(seconds, int) or not 1 <= seconds <= 120:
                raise Refused(400, "seconds: 1 to 120")
            payload = b"%d" % seconds
        _command(door, action, payload)
        await _accept(exchange)
