"""Makes ``twistd bootfw`` known. No ``__init__.py`` may ever stand beside this file."""

from twisted.application.service import ServiceMaker

bootfw = ServiceMaker("bootfw", "bootfw.tap", "Network boot services: proxyDHCP, TFTP.", "bootfw")
