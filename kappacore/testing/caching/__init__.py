"""The conformance suite for cache backends."""
