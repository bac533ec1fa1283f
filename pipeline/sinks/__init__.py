"""Where results go: the results socket, the event store and clips, annotated video, JSON lines, MQTT, webhooks.

The runtime, service and cluster rooms may import it.
"""
