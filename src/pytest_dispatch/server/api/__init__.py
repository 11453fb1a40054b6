"""The API under /api/v1: its routes, schemas, event stream and uploads."""
