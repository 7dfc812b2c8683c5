"""The kinds of faults, one module per subject. Each fault strikes once and is healed once."""
