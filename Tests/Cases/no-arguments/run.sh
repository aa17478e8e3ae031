# Without a verb the help is printed: its first line names the program.
tracectl | head -n 1
