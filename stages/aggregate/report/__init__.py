"""The report: tables and figures as parts of a page, and the page itself."""
