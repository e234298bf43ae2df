"""The chaincode protocol as an asyncio server: write contracts in Python and run them as a service."""
