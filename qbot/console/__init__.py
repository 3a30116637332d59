"""What the `qbot contract …` commands do: find the installation, check, follow, explain and write its board."""
