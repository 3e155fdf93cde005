"""Rules that find boot files which will not boot, from the files themselves.

Each rule is a generator of Findings. A rule reports only what is certainly a mistake.
"""
