"""Personas: kinds of clients with their quirks, as data, and the code that matches a client to one."""
