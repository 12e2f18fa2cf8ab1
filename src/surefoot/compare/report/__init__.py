"""The output of a comparison: the table, the files of results, and the HTML page."""
