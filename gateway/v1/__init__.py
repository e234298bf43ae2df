"""Generated messages and stubs of the gateway's API."""
