"""The set-up's page: one request of a client in the probe's own Wi-Fi, answered.

    any host, any path     GET: sent on to the page, as a phone that looks for a sign-in page asks for one of its own
    GET  /                 the page (it holds no data)
    GET  /api/state        what is set, without secrets; the networks; how the trial goes
    POST /api/scan         look for networks
    POST /api/ca           the text of a CA's certificate
    POST /api/test         the fields, as JSON: checked, tried, and kept where that went well

Whoever is in this Wi-Fi has its password (WPA2): there is no second one. What another site's page could do in a
visitor's browser is refused: a POST needs the Origin of our own page, and Host must be our address.
"""

import json

from micropython import const

from firmware.hardware.health import call
from firmware.page.page_request import JSON, TEXT, Refused

PAGE_FILE = "probe/setup.gz"
_MOST_BODY = const(2048)
_MOST_CA = const(8192)
_PLACES = " / /api/state /api/scan /api/ca /api/test "


async def admit(set_up, exchange):
    """Answer one request, for page_request.serve()."""
    method, path = exchange.method, exchange.path
    host = exchange.headers.get("host", "").lower()
    is_ours = host == set_up.host or host == set_up.address
    if method == "GET":
        if not is_ours or " %s " % path not in _PLACES:
            await exchange.begin(302, TEXT, b"Location: http://%s/\r\n" % set_up.host.encode())
        elif path == "/":
            await exchange.send_file(PAGE_FILE, "text/html; charset=utf-8")
        elif path == "/api/state":
            await exchange.begin(200, JSON)
            await exchange.send(json.dumps(_state(set_up)).encode())
            set_up.note_told()
        else:
            raise Refused(405)
        return
    if method != "POST":
        raise Refused(405)
    if not is_ours:
        raise Refused(421, "this is http://%s/" % set_up.host)
    if exchange.headers.get("origin", "").lower() != "http://" + host:
        raise Refused(403, "a page of another site")
    given = await exchange.read_object(_MOST_BODY) if path in ("/api/scan", "/api/test") else {}
    if set_up.busy or set_up.result == "kept":  # by another request, meanwhile
        raise Refused(409, "it is busy: wait a little", 5)
    if path == "/api/scan":
        set_up.scan()
        answer = {}
    elif path == "/api/ca":
        set_up.busy = "ca"
        try:
            answer = {"faults": await _take_ca(exchange)}
        finally:
            set_up.busy = ""
    elif path == "/api/test":
        answer = {"faults": set_up.test(given)}
    else:
        raise Refused(404)
    await exchange.begin(200, JSON)
    await exchange.send(json.dumps(answer).encode())


async def _take_ca(exchange):
    """{} or {"tls": what is wrong with it}."""
    from firmware.setup.setup_form import CaTaker

    taker = None
    try:
        taker = CaTaker()
        await exchange.read_pieces("text/plain", taker.take, _MOST_CA)
    except OSError:
        return {"tls": "the certificate cannot be written: free the device's memory"}
    finally:  # whoever has gone in its midst leaves nothing of use
        fault = taker.finish() if taker else ""
    return {"tls": fault} if fault else {}


def _state(set_up):
    def read(form):
        given = form.read_settings() or {}
        shown = {}
        for key in form.SHOWN:
            if key in given:
                shown[key] = given[key]
        return shown, [key for key in form.SECRET + ("mqtt_tls_ca",) if given.get(key)]

    shown, given = call("firmware.setup.setup_form", read)
    return {
        "id": set_up.probe_id,
        "why": set_up.why,
        "notice": set_up.notice(),
        "settings": shown,
        "given": given,
        "networks": set_up.networks,
        "busy": set_up.busy,
        "result": set_up.result,
        "words": set_up.words,
    }
