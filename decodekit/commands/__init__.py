"""The verbs of the `decodekit` command: each declares options, calls the library, prints."""
