"""Talks to a LakeFS server over its REST API: objects, links, branches, tags and commits of one repository."""
