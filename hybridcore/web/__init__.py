"""The dashboard: a live page of caches, as an ASGI application. Needs the extra ``serve``.

application  the routes: page, events, replay
gate         who is answered, and with which headers
server       the application on an address of its own
static       the page; uPlot draws its charts
"""

from hybridcore.web.application import app

__all__ = ["app"]
