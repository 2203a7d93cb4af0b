"""The parser of rule files: turns YAML into rules and reports each mistake with its line and column."""
