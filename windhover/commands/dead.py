"""`windhover dead list | show | redrive`: what no consumer could process, why, and its second chance."""
