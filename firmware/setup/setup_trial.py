"""Settings are tried before they are kept: the Wi-Fi is joined, then a session with the broker begun and ended.

In the thread of firmware.mqtt.wifi_trial, which has the chip's Wi-Fi for itself meanwhile: a network thread that is
there waits, and goes on with the old settings afterwards. Nothing is published and nothing subscribed to.
"""

import umqtt.simple as umqtt
from micropython import const

from firmware.mqtt.sockets import NO_ADDRESS, MqttSockets
from firmware.mqtt.wifi import NoWifi
from firmware.mqtt.wifi_trial import WifiTrial

_TIMEOUT_S = const(10)
_KEEPALIVE_S = const(30)
_TLS_STACK_BYTES = const(8192)  # as of firmware.mqtt.session
_USER = (4, 5)  # what a broker answers to a user or password that is not right, or may not
# Of firmware.mqtt.tls_sockets, by kind; and by Mbed TLS's words where a certificate is refused.
_TLS_KINDS = ("", "no_time", "bad_ca", "certificate", "no_tls")
_WORDS = (("trusted CA", "other_ca"), ("expected CN", "other_name"), ("has expired", "expired"), ("future", "future"))


class SetupTrial(WifiTrial):
    """`values`: settings (firmware.settings.check). Once `is_done`, `error` is what it has ended with, None: all went
    well.
    """

    def __init__(self, network, health, values):
        super().__init__(network, health, (values["wifi_ssid"], values["wifi_password"]))
        self.values = values
        self.error: Exception | None = NoWifi()
        self.time_sync = None  # as of a mailbox, for the dates of certificates
        self._tls_sockets = None
        self._client_id = network.probe_id.encode()
        if values["mqtt_host"]:
            self.when_joined = self._ask_broker
        else:
            self.when_joined = self._be_content

    def begin(self):
        if not self.values["mqtt_tls_ca"]:
            self.start()
            return
        try:
            from firmware.mqtt.tls_sockets import TlsSockets  # an import takes more stack than a thread has
        except MemoryError as error:
            self.error = error
            self.is_done = True
            return
        self._tls_sockets = TlsSockets
        self.start(_TLS_STACK_BYTES)

    def _be_content(self):
        self.error = None

    def _ask_broker(self):
        values = self.values
        before = umqtt.socket  # type: ignore[attr-defined] - a module's global
        sockets = None
        try:
            if values["mqtt_tls_ca"]:
                sockets = self._tls_sockets(values, self, _TIMEOUT_S)  # type: ignore[misc] - begin() has loaded it
            else:
                sockets = MqttSockets(_TIMEOUT_S)
            umqtt.socket = sockets  # type: ignore[attr-defined]
            user = values["mqtt_user"].encode() or None
            password = values["mqtt_password"].encode() if user else None
            client = umqtt.MQTTClient(
                self._client_id, values["mqtt_host"], values["mqtt_port"], user, password, _KEEPALIVE_S
            )
            client.connect()
            client.disconnect()
            self.error = None
        except Exception as error:  # whatever an odd broker makes of umqtt
            self.error = error
        finally:
            umqtt.socket = before  # type: ignore[attr-defined]
            if sockets:
                sockets.close()


def kind_of(error):
    """A word for the page, which has a sentence for it in its language."""
    if isinstance(error, NoWifi):
        return "wifi"
    if isinstance(error, umqtt.MQTTException):
        return "user" if error.args and error.args[0] in _USER else "broker"
    if len(error.args) == 2 and isinstance(error, OSError) is False:  # a TlsFault: its module may not be loaded
        kind, detail = error.args
        if kind in range(1, len(_TLS_KINDS)):
            if isinstance(detail, str):
                for words, known in _WORDS:
                    if words in detail:
                        return known
            return _TLS_KINDS[kind]
    if isinstance(error, OSError) and error.args and error.args[0] == NO_ADDRESS:
        return "no_address"
    return "broker"
