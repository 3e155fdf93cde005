"""The built-in boot-file resolvers (IBootFileResolver)."""
