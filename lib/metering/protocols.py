"""The registry: a protocol is a family below `metering` and a row here. Its code is loaded when asked for, and dropped.

A row is five words: its name, and below `metering` the modules of

    its listener       LISTENER, a metering.listener.Listener: decodes its telegrams, pushed or asked for
    its conversation   CONVERSATION, `-` where no meter is asked; made with (listener, address, password, wake_up,
                       interval_s). run() asks for ever; read_out(answer) is one attempt, a generator of line actions
                       (metering.line) that returns True with a telegram in the listener's hand. `answer` is what the
                       probe's question has brought already, b"" where the conversation is to ask itself.
                       It tells `answers` (set False by who wants to know), `pause_s` between read-outs, `failures` and
                       `failed` by reason ("no answer", "no identification" and "password refused" among them), and
                       `explanation`, a sentence for the owner, "" when all is well; heeds `password_withheld`
                       Where it has take_map(data), the setting modbus_map names a file that holds `data`, a JSON object
                       `takes_options`: has it take_options(text), for the setting meter_options, and before it
                       take_keys(key, auth_key, title, reserve, step) for meter_key, and keep_by(load, save)?
                       Where it has a FAREWELL, a computer that stops reading sends these bytes: the meter is let go
    its probe          what a search must know of it, small, and loaded only while a meter is looked for:
                       signature(data, n, begun)  may data[:n] (n <= 256) be of a telegram of mine? `begun`: data[0]
                                                  followed a silence. It picks a listener and proves nothing.
                                                  Allocates nothing on MicroPython
                       question                   None where a search may not ask; else question(address), a generator
                                                  of line actions: asks gently whether I am there, `address` as in the
                                                  settings, and returns what came, b"" for nothing. Takes some seconds
                       answered_by(answer)        the name of the protocol that such an answer is of, mine or that of
                                                  another row; "" for none
                       `-` where it has none
    its knock          for a search behind the questions, likewise (metering.detection.knocks): LINE, of whom it is sent
                       to (rate, parity, stop bits; 8 bits); ON_BATTERY, may it not be sent more often than once a day?
                       knock(asking), a generator of line actions that takes less than a second and returns whether an
                       answer came whose check holds, `asking` of metering.detection.candidates; WAKES, does the
                       conversation know how to wake a meter? ADVICE, a sentence with a %s for why it cannot be read;
                       SIGN_ON, the options of a conversation that speaks in mode E of IEC 62056-21; "" for none.
                       `-` where it has none: it is no search's business

Rows are in the order in which a search tries them: what is shortest and gentlest first. What of a telegram names a
person is the computer's to know (masking, beside the row's name).
"""

import sys

from metering.compat import const
from metering.unload import unload

ROWS = (
    "sml sml - sml_probe -\n"
    "iec62056-21 iec62056_21.data_block iec62056_21.poll iec62056_21.iec_probe -\n"
    "dlms dlms.push - dlms.dlms_probe -\n"
    "dlms-client dlms.asked_values dlms.client - dlms.dlms_knock\n"
    "kmp kmp.kmp_answer kmp.kmp_poll - kmp.kmp_knock\n"
    "mbus mbus.meter_reply mbus.mbus_poll - mbus.mbus_knock\n"
    "lis200 iec62056_21.lis200_answer iec62056_21.lis200_poll - -\n"
    "modbus modbus.modbus_answer modbus.modbus_poll - -\n"
    "c1218 c1218.c1218_values c1218.c1218_poll - c1218.c1218_knock"
)  # one text: as tuples it takes 0.5 KB more of a device's heap
BLINK = "blink"  # what says nothing but by its LED's flashes: metering.pulses, no row's
# Common files that nothing but a family loads
_SHARED = "power_direction mbus characters checksum compacting_listener asked_seldom password_rest binary_fraction"
_SHARED += " failure_sentence"

_LISTENER = const(1)
_CONVERSATION = const(2)
_PROBE = const(3)
_KNOCK = const(4)


def names():
    """The names of every protocol, in the order detection would try them."""
    return [row.split()[0] for row in ROWS.split("\n")]


def load(name):
    """The listener class of protocol `name`, its module imported on demand. Raises KeyError for an unknown name."""
    return _module(name, _LISTENER).LISTENER


def load_conversation(name):
    """The conversation class of protocol `name`, None where meters talk by themselves. Raises KeyError likewise."""
    return _module(name, _CONVERSATION).CONVERSATION if is_asked(name) else None


def searched() -> "list[str]":
    """The names of the protocols that a search looks for, in its order."""
    return [name for name in names() if not module_path(name, _PROBE).endswith("-")]


def load_probe(name):
    """The probe of protocol `name`, one of searched(): a module. Raises KeyError likewise."""
    return _module(name, _PROBE)


def knocked_for():
    """The names of the protocols whose meters are knocked for, in the rows' order."""
    return [name for name in names() if not module_path(name, _KNOCK).endswith("-")]


def load_knock(name):
    """The knock of protocol `name`, one of knocked_for(): a module. Raises KeyError likewise."""
    return _module(name, _KNOCK)


def is_asked(name):
    """Can a meter of protocol `name` (or BLINK) be asked? Raises KeyError for an unknown name."""
    return name != BLINK and not module_path(name, _CONVERSATION).endswith("-")


def module_path(name, part):
    """The full name of the module that is word `part` (1 to 4) of the row `name`."""
    for row in ROWS.split("\n"):
        words = row.split()
        if words[0] == name:
            return "metering." + words[part]
    raise KeyError(name)


def _module(name, part):
    path = module_path(name, part)
    __import__(path)
    return sys.modules[path]


def unload_protocols():
    """Drop the code of every protocol from memory; what still uses some of it keeps working."""
    families = _SHARED.split()
    for row in ROWS.split("\n"):
        families += [path.split(".")[0] for path in row.split()[1:]]
    for family in families:
        unload("metering." + family)
