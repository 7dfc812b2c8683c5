"""What `standgale doctor` looks at: one subject per module, each a check that changes nothing and stops no other."""
