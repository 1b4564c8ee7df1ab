"""Mosaics: tiles that were cut from one section, found by their borders and put together again."""
