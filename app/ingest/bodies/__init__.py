"""Request bodies as bytes: limits, decompression, and JSON and MessagePack in small pieces."""
