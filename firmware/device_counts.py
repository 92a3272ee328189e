"""What the diagnostics tell of the device, whatever it reads. Loaded for a moment at a time."""

import os

from firmware import VERSION, unwritten


def _capture_bytes():
    """Size of the capture that lies there, None without one."""
    try:
        return os.stat("capture.txt")[6]
    except OSError:
        return None


def counts_of(services, notice):
    """A new object of plain counts, texts and nothing secret."""
    health, network, outbox = services.health, services.network, services.outbox
    published_s = services.published_s
    return {
        "version": VERSION,
        "notice": notice or "ok",
        "uptime_s": health.uptime_s,
        "published_ago_s": None if published_s is None else health.uptime_s - published_s,
        "restarts": health.restarts,
        "restart_cause": health.restart_cause,
        "longest_stall_ms": health.longest_stall_ms,
        "wifi_rssi_dbm": network.rssi_dbm(),
        "mqtt_connects": network.connects,
        "mqtt_failures": network.failures,
        "mqtt_last_fault": network.last_fault,
        "mqtt_ignored_by_reason": network.mailbox.ignored,
        "mqtt_given_up": network.mailbox.given_up,
        "messages_replaced": outbox.replaced,
        "messages_refused": outbox.refused,
        "capture_bytes": _capture_bytes(),
        "unwritten_files": ", ".join(unwritten),
    }
