"""The built-in watchdog policies (IWatchdogPolicy)."""
