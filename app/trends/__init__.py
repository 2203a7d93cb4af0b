"""Raw readings and trends over HTTP."""
