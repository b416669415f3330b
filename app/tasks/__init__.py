"""What can be done with tasks: one verb a file, one SQL statement a verb wherever it fits."""
