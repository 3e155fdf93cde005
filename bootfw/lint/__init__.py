"""What will not boot, and why, read off the files themselves.

Each rule is a generator of Findings. A rule that can't be sure says nothing: what is reported has to be worth a look.
"""
