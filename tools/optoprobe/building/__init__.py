"""What a board gets: the device modules, compiled, under short names, laid out in one folder or one ROMFS image."""
