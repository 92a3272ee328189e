"""Who may see what: of whom a request is taken, and who has said the password.

    any client     the page itself (it holds no data), POST /api/login
    a session      all else; a POST with the session's token beside its cookie, from our own page
    Basic          the same password for a script: GET of readings, status and metrics

Host must be an address or our own name (a name of somebody else's that leads here is refused: DNS rebinding), Origin
must be this host where there is one, and must be there in a POST. Wrong passwords make the next one wait; who keeps
trying keeps others from signing in, but not out of a session.
"""

import binascii
import hashlib
import os

from micropython import const

from firmware.page.page_request import JSON, Refused
from metering.unload import unload

PAGE_FILE = "probe/page.gz"
_COOKIE = "optoprobe"
_MOST_SESSIONS = const(4)
_SESSION_S = const(43200)
_KEY_BYTES = const(16)
_FREE_FAILURES = const(3)  # wrong passwords in a row before the next has to wait
_MOST_WAIT_S = const(60)
_BUSY_S = const(3)  # till another's password has been looked at
LOGIN, SCRIPT = 0, 1  # who tries is counted apart: a script with an old password locks nobody out
# Behind our name, where a router adds something to it.
_DOMAINS = " local lan home internal box fritz.box speedport.ip home.arpa localdomain "
_DATA = " /api/readings /api/status /api/log /metrics "
_FILES = " /api/capture "
_ACTIONS = " /api/logout /api/restart /api/search /api/alignment /api/capture /api/wipe "


def _is_same(a, b):
    """Are two byte strings equal? Takes as long whatever they hold."""
    differ = len(a) ^ len(b)
    for i in range(min(len(a), len(b))):
        differ |= a[i] ^ b[i]
    return not differ


def _is_ours(host, name):
    """Is `host` (header, lower case) an address, or `name`?"""
    host, _, port = host.partition(":")
    if port and not port.isdigit():
        return False
    labels = host.split(".")
    if len(labels) == 4 and all(label.isdigit() and len(label) < 4 for label in labels):
        return True
    first, _, domain = host.partition(".")
    return first == name and (not domain or " %s " % domain in _DOMAINS)


def _check_origin(door, exchange):
    headers = exchange.headers
    host = headers.get("host", "").lower()
    if not _is_ours(host, door.host):
        raise Refused(421, "this is %s: call it by its name or its address" % door.host)
    origin = headers.get("origin")
    if origin is None:
        if exchange.method == "POST":
            raise Refused(403, "no Origin")
    elif origin.lower() != "http://" + host:
        raise Refused(403, "a page of another site")


def _session_of(door, exchange):
    """The session (list of PageDoor.sessions) of the request's cookie, None without one."""
    now_s = door.services.health.uptime_s
    door.sessions[:] = [session for session in door.sessions if session[2] > now_s]
    for cookie in exchange.headers.get("cookie", "").split(";"):
        name, _, key = cookie.strip().partition("=")
        if name == _COOKIE:
            for session in door.sessions:
                if _is_same(session[0].encode(), key.encode()):
                    return session
    return None


async def _try_password(door, who, password):
    """Is it the password? Raises Refused where it is too early to say."""
    now_s = door.services.health.uptime_s
    wait_s = door.login_due_s[who] - now_s
    if door.is_deriving or wait_s > 0:
        raise Refused(429, "too many tries", max(wait_s, _BUSY_S))
    door.is_deriving = True
    try:
        from firmware.page import password_hash

        is_it = await password_hash.is_right(password, door.password)
    finally:
        door.is_deriving = False
        password_hash = None
        unload("firmware.page.password_hash")
    failures = door.failures[who] = 0 if is_it else min(door.failures[who] + 1, 99)
    if failures >= _FREE_FAILURES:
        door.login_due_s[who] = now_s + min(1 << min(failures, 6), _MOST_WAIT_S)
    return is_it


async def _login(door, exchange):
    given = await exchange.read_object()
    password = given.get("password")
    if not isinstance(password, str) or not await _try_password(door, LOGIN, password):
        raise Refused(401, "wrong password")
    key, token = [binascii.hexlify(os.urandom(_KEY_BYTES)).decode() for _ in range(2)]
    if len(door.sessions) >= _MOST_SESSIONS:
        door.sessions.pop(0)
    door.sessions.append([key, token, door.services.health.uptime_s + _SESSION_S])
    cookie = "Set-Cookie: %s=%s; Path=/; Max-Age=%d; HttpOnly; SameSite=Strict\r\n" % (_COOKIE, key, _SESSION_S)
    await exchange.begin(200, JSON, cookie.encode())
    await exchange.send(b'{"token": "%s"}' % token.encode())


async def _is_script(door, exchange):
    """Does the request have the password with it?"""
    authorization = exchange.headers.get("authorization", "")
    if not authorization.startswith("Basic "):
        return False
    digest = hashlib.sha256(authorization.encode()).digest()
    if _is_same(digest, door.basic):  # a script comes every few seconds
        return True
    try:
        password = binascii.a2b_base64(authorization[6:]).decode().partition(":")[2]
    except ValueError:
        return False
    if not await _try_password(door, SCRIPT, password):
        return False
    door.basic = digest
    return True


async def admit(door, exchange):
    """Answer the request, or raise Refused."""
    _check_origin(door, exchange)
    method, path = exchange.method, exchange.path
    if method not in ("GET", "POST"):
        raise Refused(405 if method in ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH") else 501)
    is_post = method == "POST"
    if path == "/" and not is_post:
        await exchange.send_file(PAGE_FILE, "text/html; charset=utf-8")
        return
    if path == "/api/login" and is_post:
        await _login(door, exchange)
        return
    known = " %s " % path
    if known not in (_ACTIONS if is_post else _DATA + _FILES):
        is_known = path in ("/", "/api/login") or known in _DATA + _FILES + _ACTIONS
        raise Refused(405 if is_known else 404)
    session = _session_of(door, exchange)
    if not is_post:
        if session is None and (known not in _DATA or not await _is_script(door, exchange)):
            raise Refused(401, "sign in first")
        from firmware.page.page_answers import answer

        await answer(door, exchange, session)
        return
    if session is None:
        raise Refused(401, "sign in first")
    if not _is_same(exchange.headers.get("x-token", "").encode(), session[1].encode()):
        raise Refused(403, "no token")
    from firmware.page.page_actions import act

    try:
        await act(door, exchange, session)
    finally:
        act = None
        unload("firmware.page.page_actions")
        unload("firmware.owner.owner_actions")
