"""The visual feature explorer. Not built yet: the demo's ``report.html`` stands in for it."""
