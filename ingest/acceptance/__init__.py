"""Accepts single images, whichever way they come in: token, fields, content, storing, and publishing."""
