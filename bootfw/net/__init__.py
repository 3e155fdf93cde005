"""The only code that sees a reactor: sockets, timers and the protocol adapters."""
