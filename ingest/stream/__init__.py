"""Receives many frames over one WebSocket, and answers each of them when it is durable; docs/stream.md."""
