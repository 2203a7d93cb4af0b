"""Request bodies as bytes: how much of them is taken, decompression, and JSON and MessagePack in small pieces."""
