"""Reads and checks the text of rules, and makes the program from it that an engine runs; pure, no engine needed."""
