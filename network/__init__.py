"""Describes, brings up, changes and observes Fabric networks."""
