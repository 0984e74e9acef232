"""Study files that ship with the repository, and what made their parts."""
