"""A probe onto a chip: MicroPython and our files as one image, written by esptool, and what the board says then."""
