"""What subscribers receive: the schema of messages, how they are built and sent, and the subscriber's side.

The stages, sinks and whatever stands above them may import it; so may programs that subscribe. It exports nothing:
a subscriber loads the messages and the client, and no NumPy.
"""
