"""The scripts set up devices before a backend starts: they run in processes of their own."""

collect_ignore = ["scripts"]
