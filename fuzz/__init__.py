"""Fuzz targets: functions that take any bytes, and raise only when bootfw breaks one of its rules.

``make fuzz`` runs them under atheris, which looks for inputs that reach new code. tests/test_fuzz.py runs each over its
seeds, over what was found before, and over variants of both; that takes no atheris.
"""
