"""Runs before main.py, without radio: counts restarts and leaves a way in when they come in a row."""

from firmware import health

health.note_start()
