"""From an upload to stored rows: formats, series, the flush."""
