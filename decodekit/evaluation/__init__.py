"""Evaluation: answers beside those that were wanted, under several chains, with intervals."""
