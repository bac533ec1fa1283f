"""Events to an HTTP server: chosen, written, signed, and kept on disk until they are there; docs/webhooks.md.

Only its entry point is used by others.
"""

from pipeline.sinks.webhook.settings import WebhookSettings
from pipeline.sinks.webhook.sink import WebhookSink

__all__ = ["WebhookSettings", "WebhookSink"]
