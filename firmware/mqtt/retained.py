"""What a broker has kept of our own topics, read before we say anything ourselves."""

import time

from micropython import const

_WAIT_MS = const(2000)  # it comes with a subscription's answer
_LOOK_MS = const(10)


def retained(client, topics):
    """A list of the payloads kept of `topics`, None for nothing. `client`: umqtt's, without a last will. Waits.

    A session of its own, left without a word, so that what is subscribed to here is not heard for ever.
    """
    kept = {}

    def note(topic, payload):
        if topic in topics:  # what else a broker sends is nobody's
            kept[topic] = payload

    client.set_callback(note)
    client.connect()
    for topic in topics:
        client.subscribe(topic)
    for _ in range(_WAIT_MS // _LOOK_MS):
        client.check_msg()
        if len(kept) == len(topics):
            break
        time.sleep_ms(_LOOK_MS)
    client.sock.close()
    return [kept.get(topic) for topic in topics]
