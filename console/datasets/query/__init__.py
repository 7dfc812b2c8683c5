"""Reads the queries of data sets, and the pictures and boxes that they select from the database."""
