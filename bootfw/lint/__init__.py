"""The rules of ``bootfw lint``: they read the boot files and find those that can't boot.

A rule is a generator of Findings. It reports only what is certainly a mistake.
"""
