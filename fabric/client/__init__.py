"""An asyncio client of the peer's Gateway service, with the official clients' object model."""
