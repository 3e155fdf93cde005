"""The operator's pages: health, a JSON API, and a page that shows boots as they happen. Wired up by add_web()."""

from bootfw.web.site import WebSite, add_web

__all__ = ["WebSite", "add_web"]
