"""How it is shown: the table, the files of results, and the page."""
