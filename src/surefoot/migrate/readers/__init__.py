"""Readers of old files, all to one description."""
