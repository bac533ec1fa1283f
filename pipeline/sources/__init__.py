"""Where frames come from: files, URLs, cameras and other hosts, decoded; frames that show nothing new are marked.

The runtime, service and cluster rooms may import it.
"""
