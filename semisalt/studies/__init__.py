"""Studies: searches over the configuration."""
