"""Describes in the OpenAPI document the endpoints that FastAPI does not know."""
