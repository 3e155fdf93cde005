"""Makes ``twistd tftp`` known. No ``__init__.py`` may ever stand beside this file."""

from twisted.application.service import ServiceMaker

tftp = ServiceMaker("tftp", "tftp.tap", "A TFTP Server", "tftp")
