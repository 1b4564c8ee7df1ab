"""Pseudo-label rounds: what unlabelled tiles are taken, with which labels, and how a round learns from them."""
