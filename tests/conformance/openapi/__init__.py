"""The engine's answers and statuses against the OpenAPI description of Docker's API."""
