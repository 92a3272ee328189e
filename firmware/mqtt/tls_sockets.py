"""The sockets of a broker over TLS (TLS 1.2 on a chip). Loaded only where the settings name a CA.

    time known? -> TCP -> wrap: CERT_REQUIRED, host name checked -> the first packet brings the handshake with it

There is no way to do without the check: what is wrong with the CA's file, the time or the broker's certificate is a
TlsFault, and nothing is said to the broker. The module `tls` is used directly, as the `ssl` that stands in an image
begins with no check at all. The socket below never waits; every wait is a poll of ours with a limit, so that a broker
that drips its handshake is left like any other, and the loop gets its turn between the handshake's steps. One step
computes for as long as it takes, and on a chip nothing else runs meanwhile: what the meter sends is in the UART's
buffer then.
"""

import errno
import select
import time

import tls
from micropython import const

from firmware.mqtt.sockets import MqttSocket, MqttSockets
from firmware.mqtt.time_sync import TimeSync

NO_TIME = const(1)  # kinds of a TlsFault
BAD_FILE = const(2)
BAD_CERTIFICATE = const(3)
NO_HANDSHAKE = const(4)
_MAX_FILE_BYTES = const(8192)
_END = const(-0x7280)  # Mbed TLS: the other side has gone without a word
_EPIPE = const(32)  # errno has no name for it
_OF_SOCKET = const(-256)  # its numbers above are a socket's own, negated


class TlsFault(Exception):
    """args: kind; what goes with it, which is a setting's key, Mbed TLS's text, or its number."""


def _make_context(settings):
    """(the context that checks the broker, None), or (None, key of the setting whose file is not there or damaged)."""
    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED  # type: ignore[attr-defined] - its default, said all the same
    key = "mqtt_tls_ca"
    try:
        context.load_verify_locations(_content(settings[key]))
        key = "mqtt_tls_cert"
        if settings[key] or settings["mqtt_tls_key"]:
            certificate = _content(settings[key])
            key = "mqtt_tls_key"
            context.load_cert_chain(certificate, _content(settings[key]))
    except (OSError, ValueError):
        return None, key
    return context, None


def _content(path):
    with open(path, "rb") as file:
        content = file.read(_MAX_FILE_BYTES + 1)
    if not 0 < len(content) <= _MAX_FILE_BYTES:
        raise ValueError
    return content


class _Stream:
    """Stands for the socket of an MqttSocket and for its poll: is there something to be read of what is inside?"""

    def __init__(self, plain, stream, wait_ms):
        self._plain = plain
        self._stream = stream
        self._wait_ms = wait_ms
        self._poll = select.poll()
        self._head = None  # the byte that poll() has read, b"" at the end
        self._is_up = False  # the handshake is over
        self._is_left = False  # Mbed TLS has let go of the socket: it closes it no more

    def poll(self, wait_ms):
        until = time.ticks_add(time.ticks_ms(), wait_ms)
        while self._head is None:
            self._head = self._tried(self._stream.read, 1)
            if self._head is None and not self._waited(select.POLLIN, until):
                return False
        return True

    def recv(self, n):
        head = self._head
        self._head = None
        if n == 1 or not head:
            return head
        more = self._tried(self._stream.read, n - 1)
        return head + more if more else head

    def send(self, view):
        until = time.ticks_add(time.ticks_ms(), self._wait_ms)
        while True:
            sent = self._tried(self._stream.write, view)
            if sent is not None:
                self._is_up = True
                return sent
            if not self._waited(select.POLLOUT, until):
                raise OSError(errno.ETIMEDOUT)

    def _waited(self, event, until):
        left_ms = time.ticks_diff(until, time.ticks_ms())
        if left_ms <= 0:
            return False
        self._poll.register(self._stream, event)  # while a handshake lasts it waits for what that needs
        return bool(self._poll.poll(left_ms))

    def _tried(self, do, argument):
        """do(argument); its errors are a TlsFault up to the end of the handshake, and a plain socket's behind it."""
        try:
            return do(argument)
        except ValueError as error:  # the handshake's last step
            self._is_left = True
            raise TlsFault(BAD_CERTIFICATE, str(error))
        except OSError as error:
            number = error.args[0]
            if _OF_SOCKET < number < 0:
                number = -number
            if number == _EPIPE:
                number = errno.ECONNRESET
            if not self._is_up:
                self._is_left = number != _END
                raise TlsFault(NO_HANDSHAKE, number)
            if number == _END:
                number = errno.ECONNRESET
            elif number < 0:  # in TLS 1.3 a client's certificate is refused behind the handshake
                raise TlsFault(NO_HANDSHAKE, number)
            raise OSError(number)

    def close(self):
        (self._plain if self._is_left else self._stream).close()


class TlsSocket(MqttSocket):
    """A connection to the broker called `host`, by `context`."""

    def __init__(self, timeout_s, context, host):
        super().__init__(timeout_s)
        self._context = context
        self._host = host

    def connect(self, address):
        plain = self._socket
        plain.connect(address)  # type: ignore[attr-defined] - here it still is a socket
        plain.setblocking(False)  # type: ignore[attr-defined]
        try:
            wrapped = self._context.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)
        except OSError as error:  # its buffers of 20 KiB are made here
            raise TlsFault(NO_HANDSHAKE, error.args[0])
        # It stands for both from here on.
        self._socket = self._poll = _Stream(plain, wrapped, self._wait_ms)  # pyrefly: ignore[bad-override]


class TlsSockets(MqttSockets):
    """As MqttSockets; socket() also raises TlsFault."""

    def __init__(self, settings, mailbox, timeout_s):
        super().__init__(timeout_s)
        self._settings = settings
        mailbox.time_sync = mailbox.time_sync or TimeSync()
        self._mailbox = mailbox
        self._context, self._damaged = _make_context(settings)

    def socket(self):
        """A new one. Where the time is not known its server is asked first, which may take as long as a name server
        does and a second more.
        """
        self.close()
        settings = self._settings
        if self._damaged:
            raise TlsFault(BAD_FILE, self._damaged)
        time_sync = self._mailbox.time_sync
        if not time_sync.known and not (settings["ntp_host"] and time_sync.ask(settings["ntp_host"])):
            raise TlsFault(NO_TIME, settings["ntp_host"])
        self.last = TlsSocket(self._timeout_s, self._context, settings["mqtt_host"])
        return self.last
