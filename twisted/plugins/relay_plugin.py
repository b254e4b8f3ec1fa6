"""Makes `twistd relay` known. No `__init__.py` may ever stand beside this file or above it."""

from twisted.application.service import ServiceMaker

relay = ServiceMaker("relay", "relay.tap", "A mail relay that people program in Python.", "relay")
