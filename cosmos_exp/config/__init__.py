"""The configuration of a run: schema, checks, composing, records, hashes."""
