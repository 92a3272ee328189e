# Freezes the application, or the core alone, into a MicroPython of your own:
#     make -C micropython/ports/esp32 FROZEN_MANIFEST=<this file>
# What is frozen runs from flash: its code takes no heap. board.json and settings.json stay files of the board.
# options, package, module and require are given by MicroPython's manifest tool.

import os

options.defaults(core_only=False)  # noqa: F821

# Types, which only a checker reads; what computes faster on a computer.
LEFT_OUT = ("contracts.py", "on_computer")


def files_of(folder):
    """Its modules, relative to it."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in LEFT_OUT and name != "__pycache__")
        for name in sorted(names):
            if name.endswith(".py") and name not in LEFT_OUT:
                yield os.path.relpath(os.path.join(place, name), folder)


package("metering", files_of("lib/metering"), base_path="lib", opt=3)  # noqa: F821
if not options.core_only:  # noqa: F821
    package("firmware", files_of("firmware"), opt=3)  # noqa: F821
    module("boot.py", opt=3)  # noqa: F821
    module("main.py", opt=3)  # noqa: F821
    require("umqtt.simple")  # noqa: F821
