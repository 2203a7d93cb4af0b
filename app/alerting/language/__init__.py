"""The language of rule files: from YAML to rules, with every mistake at its line and column."""
