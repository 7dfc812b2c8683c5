"""Takes the pictures of clients, keeps them for some days, and gives them back byte for byte."""
