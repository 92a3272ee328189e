"""What is wrong with a session over TLS, in a sentence with its cure. Loaded for a moment, by the loop."""

import errno

from micropython import const

from firmware.mqtt.tls_sockets import BAD_CERTIFICATE, BAD_FILE, NO_TIME, TlsFault

# Of Mbed TLS (include/mbedtls/ssl.h, x509.h); its texts are those of mbedtls_x509_crt_verify_info().
_NO_RECORD = (-0x7200, -0x7280, -0x7900, errno.ECONNRESET)  # no TLS record, or the end
_NO_MEMORY = (-0x7F00, -0x2880, errno.ENOMEM)
_ALERT = const(-0x7780)
# What is found first is said: of a certificate of another CA nothing else is worth a word.
_CERTIFICATE = (
    ("trusted CA", "is not signed by the CA of mqtt_tls_ca: give that of the CA that has signed it"),
    ("expected CN", "is for another name: set mqtt_host to a name that stands in it"),
    ("has expired", "has expired: have it renewed"),
    ("future", "is not valid yet: wait, or look whether the time server of ntp_host is right"),
)


def of(error, broker, settings):
    """The sentence for `error` of the session with `broker` (a text); None where it is no matter of TLS."""
    if not isinstance(error, TlsFault):
        return None
    kind, detail = error.args
    if kind == NO_TIME and not detail:
        return "TLS needs the time of day, as certificates have dates: set ntp_host to a time server"
    if kind == NO_TIME:
        return "no time of day for the dates of certificates: the time server %s of ntp_host does not answer" % detail
    if kind == BAD_FILE:
        return "the file %s of %s is missing or damaged: give it again, optoprobe config --set %s=FILE" % (
            settings[detail] or "-",
            detail,
            detail,
        )
    if kind == BAD_CERTIFICATE:
        for part, words in _CERTIFICATE:
            if part in detail:
                return "the certificate of %s %s" % (broker, words)
        return "the certificate of %s is not accepted (%s)" % (broker, detail.strip().replace("\n", "; "))
    if detail in _NO_MEMORY:
        return "there is no memory for TLS"
    if detail == _ALERT:
        return "%s refuses the TLS handshake: it may want a certificate of ours (mqtt_tls_cert, mqtt_tls_key)" % broker
    if detail in _NO_RECORD:
        return "%s does not speak TLS at this port: see mqtt_port, with TLS mostly 8883" % broker
    return "the TLS handshake with %s fails (%d)" % (broker, detail)
