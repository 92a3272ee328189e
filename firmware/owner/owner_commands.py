"""What the owner asked for by a button or a switch: alignment mode, or a capture. Loaded for a moment."""

import asyncio

from metering.unload import unload


def attend(app):
    """Begin what is wanted of `app` (firmware.app), or end it where it runs; what is over is dropped."""
    if app.aid is not None and app.aid.done:
        app.aid = None
        unload("firmware.owner.alignment_task")
        unload("firmware.owner.capture_task")
    if not app.wanted or app.meter is None:
        app.wanted = None
        return
    name, said = app.wanted
    running = app.aid
    if running is not None:
        if name == running.NAME:
            app.wanted = None
            running.stopped = running.stopped or said == b"OFF"
        elif said == b"OFF":
            app.wanted = None
        else:  # in its place, once it is over
            running.stopped = True
        return
    app.wanted = None
    if said == b"OFF" or name == "capture" and app.network.mailbox.large_message:
        return
    if name == "alignment":
        from firmware.owner.alignment_task import AlignmentTask as Aid
    else:
        from firmware.owner.capture_task import CaptureTask as Aid
    app.aid = Aid(app, app.announcer.topic(name), said)
    asyncio.create_task(app.aid.run())
