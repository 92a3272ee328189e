"""What an asked meter has told of itself lasts over restarts: what it refuses, and its short names of one firmware."""

import json
import random

import pytest
from support.dlms_attempt import attempt

from metering.dlms.asked_values import AskedValues
from metering.dlms.client import Conversation
from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter

LIST, DEVICE = 0xFA08, 0xFD08


class Flash:
    """A file that holds what JSON can."""

    def __init__(self):
        self.text = "null"
        self.written = 0

    def load(self):
        return json.loads(self.text)

    def save(self, value):
        self.text = json.dumps(value)
        self.written += 1


def started(meter, flash, words=""):
    """A conversation behind a restart, which has read the meter once."""
    conversation = Conversation(AskedValues())
    conversation.keep_by(flash.load, flash.save)
    if words or meter.has_short_names:
        conversation.take_options(words + " type=SN" * meter.has_short_names)
    meter.names_read.clear()
    meter.refused.clear()
    return conversation, read(conversation, meter)


def read(conversation, meter):
    """Has it brought values, and no failure?"""
    attempt(conversation, meter)
    return bool(conversation._listener._values) and conversation.explanation == conversation._registers.wanted.told


@pytest.mark.parametrize("short_names", [False, True])
def test_what_is_refused_is_not_asked_for_behind_a_restart_but_again_after_a_day(short_names):
    meter, flash = AskedDlmsMeter(short_names=short_names), Flash()
    assert started(meter, flash)[1] and flash.written == 1 + short_names
    first = len(meter.refused)
    conversation, is_read = started(meter, flash)
    assert is_read and meter.refused == [] and flash.written == 1 + short_names
    assert len(conversation._listener._values) == 13 and (short_names or first == 13)
    conversation._registers.wanted.rest(86400)
    assert read(conversation, meter) and len(meter.refused) == first
    assert flash.written == 1 + short_names  # the same as stands there
    meter.number = "99999999"
    assert started(meter, flash)[1] and len(meter.refused) == first


def test_other_jobs_are_asked_for_anew():
    meter, flash = AskedDlmsMeter(), Flash()
    jobs = "obis_job=1.0.1.8.0.255:2,1.0.9.9.9.255:2"
    assert started(meter, flash, jobs)[1] and "x" in flash.load()[0][2]
    conversation, is_read = started(meter, flash, jobs)
    assert is_read and meter.refused == [] and "has refused registers of obis_job" in conversation.explanation
    assert started(meter, flash, jobs.replace("9.9.9", "9.9.8"))[1] and meter.refused
    assert started(meter, flash)[1] and len(meter.refused) == 13


def test_short_names_are_read_once_for_a_firmware_and_a_device():
    meter, flash = AskedDlmsMeter(short_names=True), Flash()
    assert started(meter, flash)[1] and LIST in meter.names_read and meter.names_read[0] == DEVICE
    assert started(meter, flash)[1] and LIST not in meter.names_read
    meter.firmware, meter.first_name = "1.08", 0x5008  # where names were others are now, or nothing
    conversation, is_read = started(meter, flash)
    assert is_read and LIST in meter.names_read and len(conversation._listener._values) == 13
    assert started(meter, flash)[1] and LIST not in meter.names_read
    meter.number = "99999999"
    assert started(meter, flash)[1] and LIST in meter.names_read
    assert [len(part) for part in flash.load()] == [3, 4]


def test_a_meter_that_tells_no_firmware_is_asked_for_its_list_at_each_start():
    meter, flash = AskedDlmsMeter(short_names=True), Flash()
    meter.firmware = ""
    for _ in range(2):
        assert started(meter, flash)[1] and LIST in meter.names_read
    assert flash.load()[1] == []


def test_names_shifted_under_the_same_firmware_are_no_reading_of_another_register():
    """The kept name of the firmware tells: what stands there now is another text, or none."""
    meter, flash = AskedDlmsMeter(short_names=True), Flash()
    assert started(meter, flash)[1]
    meter.first_name += 0x100
    conversation, is_read = started(meter, flash)
    said = {row[0]: row[1] for row in meter.read}
    assert is_read and LIST in meter.names_read
    values = {"{}-{}:{}.{}.{}*{}".format(*r.obis): r.value for r in conversation._listener._values}
    assert values == said and len(said) == 13


@pytest.mark.parametrize("short_names", [False, True])
def test_whatever_stands_in_flash(short_names):
    """Torn or anything: neither an exception nor a wrong value; and where it cannot be written, all is asked."""
    meter, flash = AskedDlmsMeter(short_names=short_names), Flash()
    assert started(meter, flash)[1]
    good, draw = flash.text, random.Random(7)
    odd = ["null", "[]", "3", "{}", "[[],[]]", "[[1,2,3],[1,2,3,4]]", "[[[],[],[]],5]"]
    odd.append('[[1,"",""],[0,"zz","zz","zz"]]')
    for _ in range(8):
        k = draw.randrange(len(good))
        odd.append(good[:k] + draw.choice("0189abefx.") + good[k + 1 :])
    for text in odd:
        try:
            json.loads(text)
        except ValueError:
            continue  # firmware.store says None then, as of the first row
        flash.text = text
        conversation, is_read = started(meter, flash)
        said = {row[0]: row[1] for row in meter.read}
        assert is_read and len(said) == 13
        values = {"{}-{}:{}.{}.{}*{}".format(*r.obis): r.value for r in conversation._listener._values}
        assert values == said
    flash.save = lambda value: None
    flash.text = "null"
    assert started(meter, flash)[1]
