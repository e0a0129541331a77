"""What could not be seen: where it begins and ends, across connections, processes and collectors."""
